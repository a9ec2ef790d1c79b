"""Settings of the lake: what can be set, and what does not go together."""

import sys
from http.client import HTTPConnection
from types import SimpleNamespace

import pytest
from msgspec import Struct

from lmstream.abilities import OnAws, Pooled, Traits
from lmstream.behind import Retention
from lmstream.config import build_sink, load
from lmstream.config.plugins import extra_missing
from lmstream.config.questions import tell_retention
from lmstream.errors import ConfigError
from lmstream.sinks import s3
from lmstream.storage import store_probe
from support.buckets import S3
from support.evil import PAGE, Evil, send

LAKE = {"type": "s3", "bucket": "lake"}


def loaded(tmp_path, **sink):
    lines = "\n".join(f"{name} = {value!r}" for name, value in {**LAKE, **sink}.items())
    path = tmp_path / "lmstream.toml"
    path.write_text(f'[engine]\norg_id = "o"\n[sink]\n{lines}\n'.replace("None", "").replace("'", '"'))
    return load(path).need("sink").settings


def test_a_bucket_is_all_it_needs(tmp_path):
    settings = loaded(tmp_path)
    assert settings == s3.Settings(bucket="lake")
    assert (settings.rows, settings.claims) == ("", "_lmstream/")
    assert isinstance(settings, OnAws)
    assert isinstance(settings, Pooled)


@pytest.mark.parametrize("prefix", ["rows", "rows/", "a/b/"])
def test_prefixes_end_with_one_slash(tmp_path, prefix):
    settings = loaded(tmp_path, prefix=prefix, claims_prefix=f"_x/{prefix}")
    assert loaded(tmp_path, prefix=prefix, claims_prefix="claims").claims == "claims/"
    assert settings.rows == prefix.rstrip("/") + "/"
    assert settings.claims == f"_x/{prefix}".rstrip("/") + "/"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bucket": ""}, r"sink\.bucket"),
        ({"bucket": "a/b"}, r"sink\.bucket"),
        ({"bucket": "s3://a"}, r"sink\.bucket"),
        ({"prefix": "/rows"}, r"sink\.prefix"),
        ({"prefix": "a//b"}, r"sink\.prefix"),
        ({"prefix": "a/../b"}, r"sink\.prefix"),
        ({"prefix": ".a"}, r"sink\.prefix"),
        ({"prefix": "_lmstream/rows"}, "claims_prefix"),
        ({"prefix": "_lmstream"}, "claims_prefix"),
        ({"claims_prefix": ""}, r"sink\.claims_prefix"),
        ({"claims_prefix": "claims"}, "queries"),
        ({"prefix": "rows", "claims_prefix": "rows/claims"}, "queries"),
        ({"format": "avro"}, r"sink\.format"),
        ({"window_seconds": 0}, r"sink\.window_seconds"),
        ({"window_seconds": 1000.0}, "window_max_seconds"),
        ({"object_bytes": 10}, r"sink\.object_bytes"),
        ({"monthly_dollars": 0}, r"sink\.monthly_dollars"),
        ({"lanes": 0}, r"sink\.lanes"),
        ({"incarnation": "a/b"}, r"sink\.incarnation"),
        ({"bucketname": "x"}, "did you mean sink.bucket"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, wrong, said):
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, **wrong)


async def test_it_is_made_without_a_connection_and_closed_twice():
    lake = s3.make(s3.Settings(bucket="lake"), client=None)
    assert lake.store.name == "s3://lake"
    await lake.close()
    await lake.close()


def test_the_extra_that_brings_a_package_is_known():
    assert "needs the extra [lake], for obstore" in str(extra_missing(ImportError("no", name="obstore"), "sink 's3'"))
    assert "needs the extra [parquet], for pyarrow" in str(extra_missing(ImportError("no", name="pyarrow"), "format"))


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.mark.usefixtures("keys")
async def test_a_start_asks_everything_and_tells_all_that_is_wrong_at_once():
    bucket = S3(bucket="lake")
    lake = s3.make(s3.Settings(bucket="lake", region="us-east-1", endpoint_url=bucket.url))
    try:
        assert [(each.name, each.verdict) for each in await lake.questions(1)] == [
            ("listing", "ok"),
            ("conditional writes", "ok"),
            ("bucket key", "ok"),
            ("lifecycle of claims", "ok"),
        ]
        await lake.check()
        rules = {"Rules": [{"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 3}}]}
        kms = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}
        sdk = await lake.store._reader.made()
        sdk.put_bucket_lifecycle_configuration(Bucket="lake", LifecycleConfiguration=rules)
        sdk.put_bucket_encryption(Bucket="lake", ServerSideEncryptionConfiguration=kms)
        with pytest.raises(ConfigError) as caught:
            await lake.check()
        assert [each.reason for each in caught.value.errors] == ["lake.bucket_key", "lake.lifecycle"]
    finally:
        await lake.close()
        bucket.close()


@pytest.mark.usefixtures("keys")
async def test_a_bucket_that_is_not_there_and_a_page_of_a_proxy_are_one_message(monkeypatch):
    monkeypatch.setattr(store_probe, "WAITS", (0.01,))
    bucket = S3(bucket="another")
    with Evil(lambda request: send(request, PAGE)) as proxy:
        for url, reason in ((bucket.url, "place.missing"), (proxy.url, "place.unreachable")):
            lake = s3.make(s3.Settings(bucket="lake", region="us-east-1", endpoint_url=url))
            with pytest.raises(ConfigError) as caught:
                await lake.check()
            assert [each.reason for each in caught.value.errors] == [reason]
            await lake.close()
    bucket.close()


def source_that_keeps(monkeypatch, kept):
    class Source:
        on_revoke = None

        async def retentions(self):
            if isinstance(kept, Exception):
                raise kept
            return kept

        async def close(self): ...

    class Nothing(Struct, frozen=True): ...

    module = SimpleNamespace(Settings=Nothing, make=lambda _settings: Source(), TRAITS=Traits(placed=True))
    monkeypatch.setitem(sys.modules, "acme", SimpleNamespace(kept=module))
    monkeypatch.setitem(sys.modules, "acme.kept", module)


DAY = 86_400.0


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("kept", "told", "verdict"),
    [
        ({"a": Retention(DAY, segment=DAY), "b": Retention(30 * DAY, segment=DAY)}, 30 * DAY, "failed"),
        ({"a": Retention(DAY, segment=DAY), "b": Retention(None)}, None, "failed"),
        ({"a": Retention(DAY, segment=DAY)}, DAY, "ok"),
        ({}, "unknown", "warning"),
        (OSError("no broker"), "unknown", "warning"),
    ],
)
async def test_validate_asks_the_topic_how_long_claims_are_needed_and_a_start_too(monkeypatch, kept, told, verdict):
    source_that_keeps(monkeypatch, kept)
    with Evil(lifecycle) as bucket:
        config = load(
            env={},
            overrides={
                "engine.org_id": "o",
                "source.type": "acme.kept",
                "sink": {**LAKE, "region": "us-east-1", "endpoint_url": bucket.url, "read_timeout": 2.0},
            },
        )
        sink = build_sink(config)
        await tell_retention(config, sink)
        assert (sink.retention.seconds if sink.retention else "unknown") == told
        found = {each.name: each.verdict for each in await sink.questions(1)}
        assert found["lifecycle of claims"] == verdict
        await sink.close()


def lifecycle(request):
    """A bucket with one rule, that lists nothing, and has nothing but that."""
    if "?lifecycle" in request.path:
        rule = b"<Rule><ID>old</ID><Status>Enabled</Status><Filter/><Expiration><Days>20</Days></Expiration></Rule>"
        send(request, b"<LifecycleConfiguration>" + rule + b"</LifecycleConfiguration>")
    elif "list-type" in request.path:
        send(request, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    else:
        send(request, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>", 403)


class Proxy:
    """Stands before a bucket and takes something away from each request, or from each response."""

    def __init__(self, url, lie):
        self.url, self.lie = url.removeprefix("http://"), lie

    def __call__(self, request):
        headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
        if self.lie == "condition":
            headers = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
        connection = HTTPConnection(self.url)
        connection.request(request.command, request.path, request.body, headers)
        answer = connection.getresponse()
        data, status = answer.read(), answer.status
        kept = {name: value for name, value in answer.headers.items() if name.lower() in {"etag", "x-amz-meta-probe"}}
        connection.close()
        if self.lie == "success" and status == 412:
            data, status, kept = b"", 200, {"ETag": '"0"'}
        if self.lie == "body" and status == 412:
            data = b"<html>412 Precondition Failed</html>"
        send(request, data, status, **kept)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ("nothing", ""),
        ("condition", " of 16 writers of one object succeeded"),
        ("success", "16 of 16 writers of one object succeeded"),
        ("body", "not answered: http_412"),
    ],
)
async def test_a_proxy_that_lies_is_found_before_a_start(lie, said, monkeypatch):
    # A loaded machine answers late; of a page no other try makes an answer.
    monkeypatch.setattr(store_probe, "WAITS", (0.01,) if lie == "body" else (0.01, 0.1, 0.5, 1.0))
    bucket = S3(bucket="lake")
    with Evil(Proxy(bucket.url, lie)) as proxy:
        lake = s3.make(s3.Settings(bucket="lake", region="us-east-1", endpoint_url=proxy.url))
        try:
            found = {each.name: each for each in await lake.questions(1)}["conditional writes"]
            assert found.verdict == ("failed" if said else "ok"), found.said
            assert said in found.said
        finally:
            await lake.close()
            bucket.close()
