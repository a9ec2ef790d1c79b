"""Every place of dead letters passes the suite that is given to others."""

import pytest

from lmstream.config.plugins import known
from lmstream.dead_letters import letters, letters_kafka, letters_s3
from lmstream.dead_letters.form import decode
from lmstream.kafka.range_reader import read_range
from lmstream.lab import KafkaLab
from lmstream.sources import kafka
from lmstream.testing import PlaceConformance, ScriptedLetters
from support.buckets import S3


class TestFolder(PlaceConformance):
    def make(self):
        return letters.make(letters.Settings(root=str(self.folder / "letters")))

    def letters(self):
        return [decode(path.read_bytes()) for path in (self.folder / "letters").rglob("*.json")]

    def fail(self):
        (self.folder / "letters").rename(self.folder / "away")
        (self.folder / "letters").touch()

    def heal(self):
        if (self.folder / "letters").is_file():
            (self.folder / "letters").unlink()
            (self.folder / "away").rename(self.folder / "letters")


class TestBucket(PlaceConformance):
    schedules = 3  # each with a bucket of its own

    @pytest.fixture(autouse=True)
    def credentials(self, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lab")

    async def up(self):
        self.store = S3()

    async def down(self):
        self.store.close()

    def make(self):
        return letters_s3.make(
            letters_s3.Settings(bucket="dlq", prefix="a/", endpoint_url=self.store.url, region="us-east-1")
        )

    def letters(self):
        return list(self.store.letters().values())


class TestTopic(PlaceConformance):
    schedules = 3  # each with a broker of its own

    async def up(self):
        self.lab = await KafkaLab().__aenter__()
        await self.lab.create_topic("dlq")

    async def down(self):
        await self.lab.close()

    def make(self):
        return letters_kafka.make(letters_kafka.Settings(topic="dlq", bootstrap=self.lab.bootstrap), source=None)

    async def letters(self):
        settings = kafka.Settings(bootstrap=self.lab.bootstrap, topics=("dlq",), group="g")
        return [decode(each.value) async for each in read_range(settings, "dlq", {0: (None, None)})]


class TestScripted(PlaceConformance):
    """The double that tests take for a place is one."""

    def make(self):
        self.places = [*getattr(self, "places", []), ScriptedLetters()]
        return self.places[-1]

    def letters(self):
        return [letter for place in self.places for letter in place.letters]


def test_every_place_in_the_folder_is_tested():
    assert known("dead_letters") == ["letters", "letters_kafka", "letters_s3"]
