"""What a bucket is set to, asked of a bucket: claims that would be deleted too early, and requests to KMS."""

import datetime as dt

import boto3
import pytest

from lmstream.behind import Retention
from lmstream.errors import REASONS
from lmstream.storage.bucket import Access
from lmstream.storage.bucket_questions import KEYS, LIFECYCLE, questions
from lmstream.storage.objects_s3 import S3Objects
from support.buckets import S3
from support.evil import Evil, send

PREFIX = "_lmstream/"
DAY = 86_400.0


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture(scope="module")
def server():
    s3 = S3(bucket="lake")
    yield s3
    s3.close()


@pytest.fixture(scope="module")
def sdk(server):
    client = boto3.client(
        "s3", "us-east-1", endpoint_url=server.url, aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="secret"
    )
    yield client
    client.close()


@pytest.fixture(scope="module")
def store(server):
    return S3Objects(Access(bucket="lake", region="us-east-1", endpoint_url=server.url))


async def ask(store, keep=7 * DAY, segment=0.0):
    return {each.name: each for each in await questions(store, PREFIX, Retention(keep, segment=segment))}


def rule(**more):
    return {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, **more}


EXPIRE = {"Expiration": {"Days": 14}}

LIFECYCLES = [
    # rule, seconds that the topic keeps, verdict
    (rule(**EXPIRE), 7 * DAY, "failed"),  # not longer than needed: 7 days and 7 more
    (rule(**EXPIRE), 7 * DAY - 1, "ok"),
    (rule(**EXPIRE), 7 * DAY + 1, "failed"),
    (rule(**EXPIRE), None, "failed"),
    (rule(Expiration={"Days": 3650}), None, "failed"),
    (rule(Expiration={"Date": dt.datetime(2099, 1, 1, tzinfo=dt.UTC)}), DAY, "failed"),
    (rule(Status="Disabled", **EXPIRE), None, "ok"),
    (rule(Filter={"Prefix": PREFIX}, **EXPIRE), 30 * DAY, "failed"),
    (rule(Filter={"Prefix": "_lm"}, **EXPIRE), 30 * DAY, "failed"),
    (rule(Filter={"Prefix": "_lmstream/claims/x/"}, **EXPIRE), 30 * DAY, "failed"),
    (rule(Filter={"Prefix": "_lmstream/settings/"}, **EXPIRE), 30 * DAY, "failed"),
    (rule(Filter={"Prefix": "_lmstream/probe/"}, Expiration={"Days": 1}), 30 * DAY, "ok"),
    (rule(Filter={"Prefix": "rows/"}, **EXPIRE), 30 * DAY, "ok"),
    (rule(Filter={"Tag": {"Key": "a", "Value": "b"}}, **EXPIRE), 30 * DAY, "ok"),
    (rule(Filter={"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "b"}]}}, **EXPIRE), 30 * DAY, "ok"),
    (rule(Filter={"And": {"Prefix": PREFIX, "ObjectSizeGreaterThan": 1}}, **EXPIRE), 30 * DAY, "failed"),
    (rule(Filter={"ObjectSizeLessThan": 999_999}, **EXPIRE), 30 * DAY, "failed"),
    (rule(NoncurrentVersionExpiration={"NoncurrentDays": 1}), 30 * DAY, "ok"),
    (rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}), 30 * DAY, "ok"),
    (rule(Transitions=[{"Days": 1, "StorageClass": "GLACIER"}]), 30 * DAY, "failed"),
    (rule(Transitions=[{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}]), 30 * DAY, "failed"),
    (rule(Transitions=[{"Days": 30, "StorageClass": "STANDARD_IA"}]), 30 * DAY, "ok"),
    (rule(Transitions=[{"Days": 1, "StorageClass": "GLACIER_IR"}]), 30 * DAY, "ok"),
]


@pytest.mark.parametrize(("rule", "keep", "verdict"), LIFECYCLES)
async def test_a_lifecycle_must_leave_claims_longer_than_the_topic_leaves_records(store, sdk, rule, keep, verdict):
    sdk.put_bucket_lifecycle_configuration(Bucket="lake", LifecycleConfiguration={"Rules": [rule]})
    check = (await ask(store, keep))[LIFECYCLE]
    assert check.verdict == verdict, check
    if verdict == "failed":
        assert check.code == REASONS["lake.lifecycle"].code
        assert "rule 'old'" in check.said


async def test_a_record_stays_as_long_as_its_segment_is_open_too(store, sdk):
    sdk.put_bucket_lifecycle_configuration(Bucket="lake", LifecycleConfiguration={"Rules": [rule(**EXPIRE)]})
    assert (await ask(store, 3 * DAY, segment=3 * DAY))[LIFECYCLE].verdict == "ok"
    assert (await ask(store, 3 * DAY, segment=4 * DAY))[LIFECYCLE].verdict == "failed"


async def test_while_the_retention_is_not_known_only_what_is_too_short_for_any_is_refused(store, sdk):
    for days, verdict in ((7, "failed"), (8, "warning"), (3650, "warning")):
        rules = {"Rules": [rule(Expiration={"Days": days})]}
        sdk.put_bucket_lifecycle_configuration(Bucket="lake", LifecycleConfiguration=rules)
        _, check = await questions(store, PREFIX, None)
        assert check.verdict == verdict
    sdk.delete_bucket_lifecycle(Bucket="lake")
    _, check = await questions(store, PREFIX, None)
    assert check.verdict == "ok"


async def test_the_shortest_of_several_rules_counts_and_the_fix_names_the_days(store, sdk):
    rules = [rule(ID="a", Expiration={"Days": 100}), rule(ID="b", Expiration={"Days": 9})]
    sdk.put_bucket_lifecycle_configuration(Bucket="lake", LifecycleConfiguration={"Rules": rules})
    check = (await ask(store, 3 * DAY))[LIFECYCLE]
    assert "rule 'b' deletes claims after 9 days" in check.said
    assert "11 days or more" in check.fix
    sdk.delete_bucket_lifecycle(Bucket="lake")
    check = (await ask(store, None))[LIFECYCLE]
    assert (check.verdict, check.said) == ("ok", "no rule deletes or archives claims")


@pytest.mark.parametrize(
    ("default", "bucket_key", "verdict"),
    [
        ({"SSEAlgorithm": "AES256"}, False, "ok"),
        ({"SSEAlgorithm": "aws:kms"}, False, "failed"),
        ({"SSEAlgorithm": "aws:kms"}, True, "ok"),
        ({"SSEAlgorithm": "aws:kms:dsse"}, False, "warning"),
    ],
)
async def test_with_kms_the_bucket_has_a_key_of_its_own(store, sdk, default, bucket_key, verdict):
    each = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bucket_key}
    sdk.put_bucket_encryption(Bucket="lake", ServerSideEncryptionConfiguration={"Rules": [each]})
    check = (await ask(store))[KEYS]
    assert check.verdict == verdict
    assert (check.code == REASONS["lake.bucket_key"].code) is (verdict == "failed")
    sdk.delete_bucket_encryption(Bucket="lake")
    assert (await ask(store))[KEYS].verdict == "ok"


@pytest.mark.parametrize(
    ("status", "code", "verdict", "said"),
    [
        (403, "AccessDenied", "warning", "AccessDenied"),
        (500, "InternalError", "warning", "InternalError"),
        (404, "NoSuchBucket", "warning", "NoSuchBucket"),
        (501, "NotImplemented", "ok", "no such setting"),
        (404, "NoSuchLifecycleConfiguration", "ok", ""),
    ],
)
async def test_what_may_not_be_asked_is_a_warning(status, code, verdict, said):
    page = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>words</Message></Error>".encode()
    with Evil(lambda request: send(request, page, status)) as evil:
        store = S3Objects(Access(bucket="lake", region="us-east-1", endpoint_url=evil.url))
        found = await ask(store)
        await store.close()
    assert found[LIFECYCLE].verdict == verdict
    assert said in found[LIFECYCLE].said
    if code == "AccessDenied":
        assert "s3:GetLifecycleConfiguration" in found[LIFECYCLE].fix
        assert "s3:GetEncryptionConfiguration" in found[KEYS].fix
