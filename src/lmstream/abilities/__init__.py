"""What a source, a sink, a place of dead letters or its module may be able to do besides what each must: all optional.

Nothing is registered: an ability is there when the methods or fields of its protocol are, whoever wrote the part.
"""

from lmstream.abilities.settings import (
    Buffering,
    Examinable,
    InFolder,
    InGroup,
    InTopic,
    Joining,
    OnAws,
    OnCluster,
    OnTopics,
    Pooled,
    Rebalanced,
    Remarked,
    Shared,
    Timed,
    Walking,
)
from lmstream.abilities.sinks import Checkable, Describable, Outliving, Stored
from lmstream.abilities.sources import (
    Askable,
    Certified,
    Grouped,
    Health,
    Healthy,
    Journaled,
    Laned,
    Loaded,
    Looking,
    Pausable,
    Placed,
    Placing,
    Positions,
    Retained,
    Seek,
    State,
    Telling,
)
from lmstream.abilities.traits import Check, Traits, Verdict

__all__ = [
    "Askable", "Buffering", "Certified", "Check", "Checkable", "Describable", "Examinable", "Grouped", "Health",
    "Healthy", "InFolder", "InGroup", "InTopic", "Joining", "Journaled", "Laned", "Loaded", "Looking", "OnAws",
    "OnCluster", "OnTopics", "Outliving", "Pausable", "Placed", "Placing", "Pooled", "Positions", "Rebalanced",
    "Remarked", "Retained", "Seek", "Shared", "State", "Stored", "Telling", "Timed", "Traits", "Verdict",
    "Walking",
]  # fmt: skip
