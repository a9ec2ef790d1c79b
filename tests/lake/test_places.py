"""Two sources with a topic of one name, and one source with two places: who lands, and who is refused before it reads."""

import pytest

from lmstream.errors import SinkError
from lmstream.lake.division import Division
from lmstream.settings import Settings
from support.lakes import Landed, records

EU, US = Settings(org_id="acme", source_id="eu"), Settings(org_id="acme", source_id="us")


def test_another_source_with_a_topic_of_the_same_name_is_refused_before_it_reads():
    lake = Landed().land(records(6), EU)
    before = lake.objects
    lake.committed.clear()
    with pytest.raises(SinkError) as caught:
        lake.land(records(6), US)
    assert caught.value.reason == "lake.place"
    assert "s3://scripted/ has lm of engine.source_id 'eu', and this process has 'us'" in caught.value.detail
    assert lake.objects == before
    assert not lake.committed, "nothing was read"
    lake.land(records(9), EU)  # and the first one continues
    assert len(lake.objects) > len(before)


def test_each_lands_below_a_prefix_or_in_an_incarnation_of_its_own():
    lake = Landed().land(records(6), EU)
    rows = lake.rows()
    lake.committed.clear()
    lake.land(records(6), US, division=Division(incarnation="us"))
    assert lake.rows() == 2 * rows
    lake.prefix = "us/"
    lake.committed.clear()
    lake.land(records(6), Settings(org_id="acme", source_id="us2"))
    assert lake.rows() == 3 * rows
    assert {"_lmstream/names/lm/_.json", "_lmstream/names/lm/us.json", "_lmstream/names/us/lm/_.json"} <= set(
        lake.objects
    )


def test_one_source_lands_a_topic_in_one_place():
    lake = Landed().land(records(6), EU)
    lake.prefix = "elsewhere/"
    with pytest.raises(SinkError) as caught:
        lake.land(records(9), EU)
    assert caught.value.reason == "lake.place"
    assert "lm is landed below s3://scripted/, and this process would land it below s3://scripted/elsewhere/" in str(
        caught.value
    )
    assert not [key for key in lake.objects if key.startswith("elsewhere/")]


def test_a_record_of_a_place_that_nobody_can_read_is_named():
    lake = Landed().land(records(2), EU)
    lake.store.objects["_lmstream/names/lm/_.json"] = b"[]", {}
    with pytest.raises(SinkError, match=r"names/lm/_\.json: not one that this version can read"):
        lake.land(records(4), EU)
