"""Settings of the lake: what can be set, and what does not go together."""

import pytest

from lmstream.abilities import OnAws, Pooled
from lmstream.config import load
from lmstream.config.plugins import extra_missing
from lmstream.errors import ConfigError
from lmstream.sinks import s3
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
    assert "lmstream[lake]" in str(extra_missing(ImportError("no", name="obstore"), "sink 's3'"))
    assert "lmstream[parquet]" in str(extra_missing(ImportError("no", name="pyarrow"), "format"))


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
async def test_a_bucket_that_is_not_there_and_a_page_of_a_proxy_are_one_message():
    bucket = S3(bucket="another")
    with Evil(lambda request: send(request, PAGE)) as proxy:
        for url, reason in ((bucket.url, "place.missing"), (proxy.url, "place.unreachable")):
            lake = s3.make(s3.Settings(bucket="lake", region="us-east-1", endpoint_url=url))
            with pytest.raises(ConfigError) as caught:
                await lake.check()
            assert [each.reason for each in caught.value.errors] == [reason]
            await lake.close()
    bucket.close()
