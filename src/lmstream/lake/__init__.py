"""A lake of objects that are made once: claim, then write, so that rows land exactly once whoever dies meanwhile.

Theory of operation
-------------------
Records of a *lane* (a partition, or several that are assigned together) are gathered into *windows*. A window ends by
age, size or memory, so nobody could know beforehand where; therefore its end is fixed by a *claim* before anything of
it can be seen: an object under the lane's next sequence number that can be made only once. Whoever finds that number
taken obeys the claim that is there. Objects of a window have names made of path and sequence number and can be made
only once too, so two that land the same window make the same objects.

The order in each lane: letters of the window durable; claim; objects; offsets. A claim has the ranges of offsets,
which begin exactly where the claim before it ends, a manifest of its objects, the records that became letters, and the
hash of all settings that its rows depend on. So an owner that finds claims whose objects are not all there (`opening`)
makes them again: it reads the records from Kafka, makes rows by the claim's settings, cuts them as the manifest says,
and compares digests before it writes anything. It judges nothing anew.

There is no fencing, no coordinator and no clock in this. A member that was stopped and wakes up loses its next claim,
or wins it and binds its successor; its objects are refused because they are there, or are the ones that its successor
would have made. Kafka's commits only say where to begin; the chain of claims says what has landed.

A topic may be divided into other lanes. Then each lane before gets a last claim, a barrier, once all its windows are
whole, and the new lanes begin where all of these end (`barriers`).
"""

from lmstream.lake.claims import Claim, Claims
from lmstream.lake.layout import Layout
from lmstream.lake.outlet import LakeOutlet
from lmstream.lake.window_policy import WindowPolicy

__all__ = ["Claim", "Claims", "LakeOutlet", "Layout", "WindowPolicy"]
