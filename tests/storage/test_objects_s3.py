"""Each answer that a bucket, or what stands before it, can give, over HTTP: only what is understood counts."""

import asyncio
import ssl
import time

import pytest
import trustme

from lmstream.aws.clock import CLOCK
from lmstream.bounded import BoundError
from lmstream.delivery.retry import UNKNOWN
from lmstream.delivery.sender import THROTTLING
from lmstream.errors import ConfigError
from lmstream.interfaces import StoreError
from lmstream.model import Kind
from lmstream.storage import _s3_writer
from lmstream.storage._s3_writer import place_of
from lmstream.storage.bucket import Access
from lmstream.storage.objects_s3 import S3Objects
from support.evil import LISTING, PAGE, Evil, send

R, F = Kind.RETRYABLE, Kind.FATAL_CONFIG
KEY = "_lmstream/claims/é=1/t/0/7.json"
ETAG = {"ETag": '"0cc175b9c0f1b6a831c399e269772661"'}


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


def xml(code, message="words of the service"):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        "<RequestId>4442587FB7D0A2F9</RequestId></Error>"
    ).encode()


def refuse(status, code="", message="words of the service", body=None):
    page = body if body is not None else xml(code, message) if code else b""
    where = {"Location": "http://127.0.0.1:9/"} if status == 307 else {}
    return lambda request: send(request, page, status, **where)


class Play:
    """A server, and a store that believes it to be S3: made once, for the SDK takes its time."""

    def __init__(self):
        self.seen = []

    def answer(self, request):
        self.seen.append((request.command, request.path, {n.lower(): v for n, v in request.headers.items()}))
        self.playing(request)

    async def ask(self, verb, answer, most=1 << 20, meta=None, store=None):
        """One call while the server plays this answer: what it gives, or the failure it raises."""
        self.playing = answer
        self.seen.clear()
        store = store or self.store
        calls = {
            "create": lambda: store.create(KEY, b"{}", meta or {"rows": "3"}),
            "replace": lambda: store.replace(KEY, b"{}", meta or {"rows": "0"}, ETAG["ETag"]),
            "tagged": lambda: store.tagged(KEY),
            "get": lambda: store.get(KEY, most),
            "stat": lambda: store.stat(KEY),
            "names": lambda: store.names("_lmstream/", min(most, 3)),
        }
        try:
            return await calls[verb]()
        except StoreError as error:
            return error.failure

    def another(self):
        return S3Objects(self.store.settings)


@pytest.fixture(scope="module")
def played():
    play = Play()
    with Evil(play.answer) as server:
        play.store = S3Objects(
            Access(bucket="lake", region="eu-west-1", endpoint_url=server.url, connect_timeout=1, read_timeout=1)
        )
        yield play


@pytest.fixture
def ask(played):
    return played.ask


REFUSALS = [
    # status, code, kind, code of the failure
    (409, "ConditionalRequestConflict", R, "ConditionalRequestConflict"),
    (409, "OperationAborted", R, "OperationAborted"),
    (500, "InternalError", R, "InternalError"),
    (500, "", R, "http_500"),
    (502, "", R, "http_502"),
    (503, "SlowDown", R, "SlowDown"),
    (503, "ServiceUnavailable", R, "ServiceUnavailable"),
    (503, "", R, "ServiceUnavailable"),
    (429, "", R, "throttled"),
    (429, "TooManyRequests", R, "throttled"),
    (400, "KMS.ThrottlingException", R, "throttled"),
    (400, "ThrottlingException", R, "ThrottlingException"),
    (400, "RequestTimeout", R, "RequestTimeout"),
    (400, "ExpiredToken", R, "ExpiredToken"),
    (400, "BadDigest", R, "BadDigest"),
    (400, "SomethingOfNextYear", R, "SomethingOfNextYear"),
    (400, "", R, "http_400"),
    (307, "TemporaryRedirect", R, None),
    (403, "RequestTimeTooSkewed", R, CLOCK),
    (403, "AccessDenied", F, "AccessDenied"),
    (403, "AllAccessDisabled", F, "AllAccessDisabled"),
    (403, "InvalidAccessKeyId", F, "InvalidAccessKeyId"),
    (403, "SignatureDoesNotMatch", F, "SignatureDoesNotMatch"),
    (403, "InvalidObjectState", F, "InvalidObjectState"),
    (403, "SomethingOfNextYear", F, "SomethingOfNextYear"),
    (403, "", F, "http_403"),
    (401, "", F, "http_401"),
    (404, "NoSuchBucket", F, "NoSuchBucket"),
    (404, "", F, "http_404"),
    (405, "MethodNotAllowed", F, "MethodNotAllowed"),
    (400, "InvalidToken", F, "InvalidToken"),
    (400, "AuthorizationHeaderMalformed", F, "AuthorizationHeaderMalformed"),
    (400, "KMS.DisabledException", F, "KMS.DisabledException"),
    (400, "KMS.NotFoundException", F, "KMS.NotFoundException"),
    (501, "NotImplemented", F, "NotImplemented"),
]


@pytest.mark.parametrize("verb", ["create", "replace", "get", "names"])
@pytest.mark.parametrize(("status", "code", "kind", "called"), REFUSALS, ids=lambda each: str(each) or "none")
async def test_refusals_are_told_by_the_code_of_the_service(ask, verb, status, code, kind, called):
    found = await ask(verb, refuse(status, code))
    assert found.kind is kind
    if called is not None:
        assert found.code == called
    assert ("Fix: " in found.message) is (kind is F)


@pytest.mark.parametrize(("status", "code", "kind", "called"), REFUSALS, ids=lambda each: str(each) or "none")
async def test_what_a_head_request_does_not_say_is_asked_of_a_get(ask, status, code, kind, called):
    def answer(request):
        if request.command == "HEAD":
            send(request, b"", status)
        else:
            refuse(status, code)(request)

    found = await ask("stat", answer)
    assert found.kind is kind
    if called is not None:
        assert found.code == called


def test_slowdown_lowers_the_concurrency():
    assert {"SlowDown", "throttled", "ThrottlingException"} <= THROTTLING


async def test_a_created_object_is_one_conditional_put_with_its_metadata(played):
    assert await played.ask("create", lambda r: send(r, b"", **ETAG), meta={"rows": "3", "digest": "ab"}) is True
    ((method, path, headers),) = played.seen
    assert (method, path) == ("PUT", "/lake/_lmstream/claims/%C3%A9%3D1/t/0/7.json")
    sent = headers
    assert sent["if-none-match"] == "*"
    assert sent["content-type"] == "application/json"
    assert (sent["x-amz-meta-rows"], sent["x-amz-meta-digest"]) == ("3", "ab")
    assert "/eu-west-1/s3/aws4_request" in sent["authorization"]


async def test_only_s3s_own_word_says_that_an_object_is_there(ask):
    assert await ask("create", refuse(412, "PreconditionFailed")) is False


async def test_a_replacement_is_one_put_under_the_condition_of_a_version(played):
    assert await played.ask("replace", lambda r: send(r, b"", **ETAG), meta={"rows": "0"}) is True
    ((method, path, headers),) = played.seen
    assert (method, path) == ("PUT", "/lake/_lmstream/claims/%C3%A9%3D1/t/0/7.json")
    assert (headers["if-match"], headers["x-amz-meta-rows"]) == (ETAG["ETag"], "0")
    assert "if-none-match" not in headers


async def test_another_version_and_none_at_all_are_not_replaced(ask):
    assert await ask("replace", refuse(412, "PreconditionFailed")) is False
    assert await ask("replace", refuse(404, "NoSuchKey")) is False
    assert (await ask("replace", refuse(404, body=PAGE))).kind is F
    assert (await ask("replace", refuse(412, body=PAGE))).kind is R


async def test_a_version_has_its_tag_and_its_metadata(ask):
    found = await ask("tagged", lambda r: send(r, b"", **ETAG, x_amz_meta_rows="3"))
    assert (found.tag, found.meta) == (ETAG["ETag"], {"rows": "3"})
    assert await ask("tagged", refuse(404, "NoSuchKey")) is None


@pytest.mark.parametrize(
    "answer",
    [
        refuse(412),  # whoever sent it did not say why
        refuse(412, body=PAGE),
        refuse(412, "AccessDenied"),
        refuse(412, body=b"<p>" + xml("PreconditionFailed")),
        refuse(409, "PreconditionFailed"),
        refuse(409, body=b"Server returned non-2xx status code: 412 Precondition Failed: " + xml("PreconditionFailed")),
        refuse(304),
        refuse(200, "PreconditionFailed"),
        refuse(500, "PreconditionFailed"),
    ],
)
async def test_nothing_else_is_taken_for_an_object_that_is_there(ask, answer):
    found = await ask("create", answer)
    assert found not in (True, False)


def half(request):
    request.send_response(200)
    for name, value in {**ETAG, "Content-Length": "5000", "x-amz-meta-rows": "3"}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(b"half")


NO_ANSWERS = {
    "reset": lambda request: request.connection.close(),
    "silent": lambda _request: time.sleep(2),
    "garbage": lambda request: request.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "page": lambda request: send(request, PAGE),
    "error with status 200": lambda request: send(request, xml("InternalError")),
    "empty": lambda request: send(request, b""),
    "no tag": lambda request: send(request, b"", ETag='""'),
}


@pytest.mark.parametrize("verb", ["create", "replace", "get", "stat", "tagged", "names"])
@pytest.mark.parametrize("answer", NO_ANSWERS)
async def test_what_is_not_understood_has_an_unknown_outcome(ask, verb, answer):
    found = await ask(verb, NO_ANSWERS[answer])
    assert found.kind is R
    assert found.code == UNKNOWN or (verb, found.code) == ("names", "InternalError")  # the SDK reads that one


async def test_a_truncated_object_is_no_object(ask):
    found = await ask("get", half)
    assert (found.kind, found.code) == (R, UNKNOWN)


async def test_a_refusal_that_breaks_off_is_unknown(ask):
    def answer(request):
        request.send_response(403)
        request.send_header("Content-Length", "5000")
        request.end_headers()
        request.wfile.write(xml("AccessDenied")[:60])

    assert (await ask("create", answer)).code == UNKNOWN


async def test_an_error_of_any_size_is_cut(ask):
    found = await ask("create", refuse(500, body=b"a" * (1 << 20)))
    assert (found.code, len(found.message) < 300) == ("http_500", True)


async def test_nobody_listens():
    with Evil(lambda _: None) as evil:
        url = evil.url
    store = S3Objects(Access(bucket="lake", endpoint_url=url, region="eu-west-1", connect_timeout=1))
    for call in (store.create(KEY, b"", {}), store.get(KEY, 9), store.stat(KEY), store.names("", 9)):
        with pytest.raises(StoreError) as caught:
            await call
        assert caught.value.failure.kind is R
        assert caught.value.failure.code in {"connect_failed", "EndpointConnectionError"}  # sure that nothing was sent


async def test_a_bucket_elsewhere_is_a_wrong_region(ask):
    found = await ask("create", refuse(301, "PermanentRedirect"))
    assert (found.kind, found.code) == (F, "PermanentRedirect")
    assert "sink.region" in found.message


async def test_a_redirect_is_never_followed(ask):
    followed = []
    with Evil(lambda request: (followed.append(1), send(request, b"", **ETAG))) as elsewhere:

        def answer(request):
            send(request, b"", 307, Location=f"{elsewhere.url}/lake/{KEY}")

        assert (await ask("create", answer)).kind is R
    assert not followed


async def test_a_missing_object_is_missing_in_s3s_own_word_only(ask):
    missing = refuse(404, "NoSuchKey")
    assert await ask("get", missing) is None
    assert await ask("stat", missing) is None
    assert (await ask("get", refuse(404, body=PAGE))).kind is F
    assert (await ask("stat", refuse(404, body=PAGE))).kind is F


@pytest.mark.parametrize("status", [403, 404])
async def test_an_object_that_is_made_between_two_questions_is_asked_about_again(ask, status):
    def answer(request):
        send(request, b"", status) if request.command == "HEAD" else send(request, b"x", **ETAG)

    for verb in ("stat", "tagged"):
        assert (await ask(verb, answer)).kind is R


async def test_an_object_larger_than_it_may_be_is_not_read(ask):
    with pytest.raises(BoundError):
        await ask("get", lambda request: send(request, b"a" * 100, **ETAG), most=99)
    assert await ask("get", lambda request: send(request, b"a" * 100, **ETAG), most=100) == b"a" * 100


async def test_metadata_comes_back(ask):
    assert await ask("stat", lambda r: send(r, b"", **ETAG, x_amz_meta_rows="3")) == {"rows": "3"}
    assert await ask("stat", lambda r: send(r, b"", **ETAG)) == {}


def listing(*names, truncated=False):
    contents = b"".join(b"<Contents><Key>%s</Key><Size>1</Size></Contents>" % name for name in names)
    page = LISTING % (b"x", 1)
    head, _, rest = page.partition(b"<Contents>")
    _, _, tail = rest.partition(b"</Contents>")
    if truncated:
        head = head.replace(b">false<", b">true<")
    return lambda request: send(request, head + contents + tail)


async def test_a_listing_asks_for_no_more_than_is_wanted(played):
    found = await played.ask("names", listing(b"_lmstream/a", b"_lmstream/b"), most=2)
    assert found == ["_lmstream/a", "_lmstream/b"]
    ((_, path, _),) = played.seen
    assert "max-keys=2" in path
    assert "prefix=_lmstream%2F" in path


@pytest.mark.parametrize(
    "answer",
    [
        listing(b"_lmstream/b", b"_lmstream/a"),
        listing(b"_lmstream/a", b"_lmstream/a"),
        listing(b"other/a"),
    ],
)
async def test_a_listing_out_of_order_or_of_something_else_is_refused(ask, answer):
    found = await ask("names", answer)
    assert found.kind is F
    assert "lists keys" in found.message


async def test_a_listing_that_is_cut_without_saying_where_is_unknown(ask):
    assert (await ask("names", listing(b"_lmstream/a", truncated=True), most=5)).code == UNKNOWN
    assert await ask("names", listing(b"_lmstream/a", truncated=True), most=1) == ["_lmstream/a"]


# --- keys, credentials, where ---


@pytest.mark.parametrize(
    "key", ["a//b", "/a", "a/", "../a", "a/./b", ".hidden/a", "a\nb", "a\\b", "k" * 1025, "é" * 513]
)
async def test_keys_that_no_store_keeps_as_they_are_never_leave(key):
    for call in (
        S3Objects(Access(bucket="b")).create(key, b"", {}),
        S3Objects(Access(bucket="b")).get(key, 1),
        S3Objects(Access(bucket="b")).stat(key),
    ):
        with pytest.raises(StoreError) as caught:
            await call
        assert (caught.value.failure.kind, caught.value.failure.code) == (F, "config.invalid")


@pytest.mark.parametrize(
    "meta", [{"a b": "1"}, {"Rows": "1"}, {"r": "a\nb"}, {"r": "é"}, {"r": " a"}, {"r": "a" * 2048}]
)
async def test_metadata_that_would_come_back_otherwise_is_refused(meta):
    with pytest.raises(ValueError, match="metadata"):
        await S3Objects(Access(bucket="b")).create("k", b"", meta)


async def test_without_credentials_it_says_so(played, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for verb in ("create", "get", "stat", "names"):
        found = await played.ask(verb, lambda r: send(r, b"", **ETAG), store=played.another())
        assert (verb, found.kind, found.code) == (verb, F, "NoCredentialsError")
        assert "Fix: " in found.message


async def test_variables_of_the_environment_do_not_lead_elsewhere(played, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_BUCKET": "other",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_CONDITIONAL_PUT": "disabled",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_UNSIGNED_PAYLOAD": "true",
        "AWS_REGION": "mars-1",
        "AWS_S3_EXPRESS": "true",
    }.items():
        monkeypatch.setenv(name, value)
    assert await played.ask("create", lambda r: send(r, b"", **ETAG), store=played.another()) is True
    ((_, path, headers),) = played.seen
    assert path.startswith("/lake/_lmstream/")
    assert "/eu-west-1/s3/" in headers["authorization"]
    assert headers["if-none-match"] == "*"
    assert len(headers["x-amz-content-sha256"]) == 64


def test_where_the_bucket_is():
    here = Access(bucket="lake", region="eu-west-1")
    found = place_of(here, "https://s3.eu-west-1.amazonaws.com", "eu-west-1")
    assert found["endpoint"] == "https://lake.s3.eu-west-1.amazonaws.com"
    assert found["virtual_hosted_style_request"] is True
    assert found["checksum_algorithm"] == "SHA256"
    dotted = place_of(Access(bucket="my.lake"), "https://s3.eu-west-1.amazonaws.com", "eu-west-1")
    assert (dotted["endpoint"], dotted["virtual_hosted_style_request"]) == ("https://s3.eu-west-1.amazonaws.com", False)
    local = place_of(Access(bucket="lake", endpoint_url="http://127.0.0.1:5/"), "http://127.0.0.1:5/", None)
    assert (local["endpoint"], local["region"]) == ("http://127.0.0.1:5", "us-east-1")
    with pytest.raises(ConfigError, match=r"sink\.region"):
        place_of(Access(bucket="lake"), "https://s3.amazonaws.com", "aws-global")


async def test_credentials_are_asked_for_anew_every_few_minutes_and_not_for_each_object(monkeypatch):
    asked = []
    fetch = _s3_writer.Keys._fetch
    monkeypatch.setattr(_s3_writer.Keys, "_fetch", lambda self: (asked.append(1), fetch(self))[1])
    with Evil(lambda r: send(r, b"", **ETAG)) as evil:
        store = S3Objects(Access(bucket="lake", endpoint_url=evil.url, region="eu-west-1"))
        await asyncio.gather(*(store.create(f"k{n}", b"", {}) for n in range(20)))
        assert len(asked) == 1
        # obstore renews what ends within 5 minutes: with less left than that, it asks each time.
        monkeypatch.setattr(_s3_writer, "_FRESH", _s3_writer._FRESH / 2 - _s3_writer.timedelta(seconds=1))
        await store.close()
        for n in range(3):
            await store.create(f"l{n}", b"", {})
            await asyncio.sleep(0.15)  # within 100 ms it does not ask twice
        assert len(asked) == 4


async def test_without_the_extra_it_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"needs the extra \[lake\]"):
        await S3Objects(Access(bucket="b")).create("k", b"", {})


async def test_credentials_that_end_are_renewed_before_they_do(monkeypatch, tmp_path):
    """By the SDK's chain, here a program: web identity, containers, SSO and instances are renewed by the same class."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    program = tmp_path / "keys"
    program.write_text(
        "#!/bin/sh\n"
        f"n=$(cat {tmp_path}/n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > {tmp_path}/n\n"
        'end=$(date -u -d "+$(cat ' + f"{tmp_path}/minutes" + ') minutes" +%Y-%m-%dT%H:%M:%SZ)\n'
        'echo "{\\"Version\\": 1, \\"AccessKeyId\\": \\"AKIA$n\\", \\"SecretAccessKey\\": \\"s\\", '
        '\\"SessionToken\\": \\"token$n\\", \\"Expiration\\": \\"$end\\"}"\n'
    )
    program.chmod(0o700)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    (tmp_path / "minutes").write_text("60")
    keys = _s3_writer.Keys()
    first = await keys()
    assert (first["access_key_id"], first["token"]) == ("AKIA1", "token1")
    assert (await keys())["access_key_id"] == "AKIA1"  # an hour is left of them
    (tmp_path / "minutes").write_text("5")
    ending = _s3_writer.Keys()
    assert len({(await ending())["access_key_id"] for _ in range(3)}) == 3  # no ten minutes are left of any
    with Evil(lambda r: send(r, b"", **ETAG)) as evil:
        seen = []
        play = evil.server.RequestHandlerClass
        monkeypatch.setattr(
            play, "do_PUT", lambda self: (seen.append(self.headers["x-amz-security-token"]), play._any(self))
        )
        store = S3Objects(Access(bucket="lake", endpoint_url=evil.url, region="eu-west-1"))
        assert await store.create("k", b"", {}) is True
        await store.close()
    assert seen
    assert seen[0].startswith("token")


async def test_an_authority_of_ones_own_is_trusted_where_the_sdk_is_told_so(monkeypatch, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Evil(lambda r: send(r, b"", **ETAG)) as evil:
        evil.server.socket = context.wrap_socket(evil.server.socket, server_side=True)
        settings = Access(bucket="lake", endpoint_url=evil.url.replace("http:", "https:"), region="eu-west-1")

        async def attempt():
            store = S3Objects(settings)
            try:
                return await store.create("k", b"", {})
            except StoreError as error:
                return error.failure
            finally:
                await store.close()

        assert (await attempt()).kind is R
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        assert await attempt() is True
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
        with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
            await attempt()
