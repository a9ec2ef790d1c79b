"""Settings of a deployment: what cannot work is one sentence with the figures, before anything is built."""

from pathlib import Path

import pytest

from lmstream.deployment import load
from lmstream.errors import ConfigError

ROOT = Path(__file__).parents[1]
GOOD = '[engine]\norg_id = "acme"\n[cluster]\ncreate_ca = true\n'


def loaded(tmp_path, text):
    path = tmp_path / "deployment.toml"
    path.write_text(text)
    return load(path)


def test_the_settings_of_the_repository_are_good_and_have_the_names_that_were_asked_for():
    deployment = load(ROOT / "deploy/cdk/settings.toml")
    assert (deployment.region, deployment.topic) == ("us-west-2", "lm.metrics.otlp")
    assert deployment.cluster.name == "lm-datapublisher-demo"
    assert deployment.bucket.name == "lm-datapublisher-metrics"
    assert deployment.cluster.kafka_version == "3.8.x"
    assert deployment.active_partitions == 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "[stream]\nbuffer_mib = 5\n", r"stream\.buffer_mib: 5 MiB; with dynamic partitioning .* 64 to 128"),
        (GOOD + "[stream]\nbuffer_seconds = 30\n", r"stream\.buffer_seconds: 30 s; .* 60 to 900"),
        ('[engine]\norg_id = "acme"\n', r"cluster\.ca_arn: mTLS needs a certificate authority"),
        (GOOD + 'ca_arn = "arn:aws:acm-pca:x"\n', r"cluster\.create_ca: a CA is named"),
        ("[cluster]\ncreate_ca = true\n", r"engine\.org_id: LMDP sends no organization"),
        (
            GOOD + "[load]\nmetrics = 3000\n",
            r"1 organizations x 3000 metricKeys x hours that are open make 6,000 active partitions, over the quota of 500",
        ),
        (GOOD + "[load]\nbundle_bytes = 256000\n", r"transform\.batch_size: 100 bundles make 34\.2 MB, .* at most 17"),
        (GOOD + "[transform]\npollers = 2\n", r"a Pipe has no provisioned pollers"),
        (GOOD + "brokers = 2\n", r"2 brokers do not spread evenly over network\.zones = 3"),
        (GOOD + '[bucket]\nname = "rows"\ndead_letters = "rows"\n', r"dead letters in the landing bucket"),
        (GOOD + "[bucket]\nglacier_days = 30\nintelligent_tiering_days = 60\n", r"30 days is not after"),
        (GOOD + "[stream]\nbufer_mib = 64\n", r"stream\.bufer_mib is no setting .*did you mean stream\.buffer_mib\?"),
        (GOOD + '[stream]\nbuffer_mib = "64"\n', r"stream\.buffer_mib: expected int, saw \"64\""),
        (GOOD.replace('"acme"', '"acme"\npath = "{metricKey}/"'), r"path template '\{metricKey\}/': it needs at least"),
        ("= 1", r"are no TOML"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, text)


def test_fewer_metric_keys_fit_the_quota(tmp_path):
    text = GOOD.replace('"acme"', '"acme"\nmetric_key = "buckets"\nmetric_buckets = 32') + "[load]\nmetrics = 3000\n"
    assert loaded(tmp_path, text).active_partitions == 64
    text = (
        GOOD.replace('"acme"', '"acme"\nmetric_key = "allow"\nmetric_allow = ["a", "b"]') + "[load]\nmetrics = 3000\n"
    )
    assert loaded(tmp_path, text).active_partitions == 6


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load(tmp_path / "nowhere.toml")
