"""Settings of a deployment: what cannot work is one sentence with the figures, before anything is built."""

from pathlib import Path

import pytest

from lmstream.deployment import load
from lmstream.errors import ConfigError

ROOT = Path(__file__).parents[2]
GOOD = '[engine]\norg_id = "acme"\n[cluster]\ncreate_ca = true\n'
NEW = "defaults = 2\n" + GOOD
PLACE = "us-west-2:111122223333"
CLUSTER = f"arn:aws:kafka:{PLACE}:cluster/theirs/11111111-2222-3333-4444-555555555555-1"
AUTHORITY = f"arn:aws:acm-pca:{PLACE}:certificate-authority/11111111-2222-3333-4444-555555555555"
SECRET = f"arn:aws:secretsmanager:{PLACE}:secret:theirs-AbCdEf"
KEY = f"arn:aws:kms:{PLACE}:key/11111111-2222-3333-4444-555555555555"


def loaded(tmp_path, text):
    path = tmp_path / "deployment.toml"
    path.write_text(text)
    return load(path)


def test_the_settings_of_the_repository_are_good_and_have_the_names_that_were_asked_for():
    deployment = load(ROOT / "deploy/cdk/settings.toml")
    assert (deployment.region, deployment.topic) == ("us-west-2", "lm.metrics.otlp")
    assert deployment.cluster.name == "lm-datapublisher-demo"
    assert deployment.bucket_name("metrics", "111122223333") == "lmstream-111122223333-us-west-2-metrics"
    assert deployment.cluster.kafka_version == "3.9.x.kraft"
    assert deployment.active_partitions == 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "[stream]\nbuffer_mib = 5\n", r"stream\.buffer_mib: 5 MiB; with dynamic partitioning .* 64 to 128"),
        (GOOD + "[stream]\nbuffer_seconds = 30\n", r"stream\.buffer_seconds: 30 s; .* 60 to 900"),
        ('[engine]\norg_id = "acme"\n', r"cluster\.ca_arn: mTLS needs a certificate authority"),
        (GOOD + f'ca_arn = "{AUTHORITY}"\n', r"cluster\.create_ca: a CA is named"),
        ("[cluster]\ncreate_ca = true\n", r"engine\.org_id: LMDP sends no organization"),
        (
            GOOD + "[load]\nmetrics = 3000\n",
            r"1 organizations x 3000 metricKeys x hours that are open make 6,000 active partitions, over the quota of 500",
        ),
        (GOOD + "[load]\nbundle_bytes = 256000\n", r"transform\.batch_size: 100 bundles make 34\.2 MB, .* at most 17"),
        (GOOD + "[transform]\npollers = 2\n", r"a Pipe has no provisioned pollers"),
        (GOOD + "[transform]\nretries = 5000\n", r"transform\.retries: only provisioned pollers have it"),
        (
            GOOD + '[transform]\nsource = "mapping"\nminimum_pollers = 2\n',
            r"transform\.minimum_pollers: only provisioned pollers have it",
        ),
        (
            GOOD + '[transform]\nsource = "mapping"\npollers = 1\nretries = 10\n',
            r"transform\.retries: 10 would use up the retries of valid records .* set 1,000 to 10,000, or -1",
        ),
        (GOOD + "brokers_watched = 3\n", r"cluster\.brokers_watched: it is of an existing cluster"),
        (
            GOOD + '[transform]\nsource = "mapping"\npollers = 1\nminimum_pollers = 2\n',
            r"transform\.minimum_pollers: 2 is more than transform\.pollers = 1",
        ),
        (
            'path = "direct"\n' + GOOD.replace('org_id = "acme"', 'org_id = "acme"\ndimensions = true'),
            r"engine\.dimensions: the table of the direct path",
        ),
        (
            GOOD.replace('org_id = "acme"', 'org_id = "acme"\ndimensions = true\npath = "{orgKey}/{yyyy}/{MM}/{dd}/"'),
            r"engine\.dimensions: engine\.path '{orgKey}/{yyyy}/{MM}/{dd}/' has no {metricKey}",
        ),
        (GOOD + "brokers = 2\n", r"2 brokers do not spread evenly over network\.zones = 3"),
        (GOOD + '[bucket]\nname = "rows"\ndead_letters = "rows"\n', r"dead letters in the landing bucket"),
        (GOOD + "[bucket]\nglacier_days = 30\nintelligent_tiering_days = 60\n", r"30 days is not after"),
        (NEW + "[bucket]\nglacier_days = 30\nglacier_ir_days = 30\n", r"bucket\.glacier_days: 30 days is not after"),
        (
            NEW.replace('org_id = "acme"', 'org_attributes = ["org"]\npath = "{orgKey}/{yyyy}/{MM}/{dd}/"'),
            r"engine\.path: .*'rows/\{orgKey\}",
        ),
        (NEW.replace('"acme"', '"errors"\npath = "{orgKey}/{yyyy}/{MM}/{dd}/"'), r"engine\.path: .* another prefix"),
        (NEW.replace('"acme"', '"acme"\npath = "err{orgKey}/{yyyy}/{MM}/{dd}/"'), r"engine\.path: .* another prefix"),
        (GOOD + '[bucket]\nname = "rows"\nresults = "rows-dead-letters"\n', r"bucket\.results: query results expire"),
        ("defaults = 3\n" + GOOD, r"defaults: expected one of 1, 2, saw 3"),
        (GOOD + '[catalog]\nmap_keys = "upper"\n', r"catalog\.map_keys: expected one of as-written, lower-case"),
        (
            GOOD + "[stream]\nbufer_mib = 64\n",
            r"stream\.bufer_mib is not a setting .*did you mean stream\.buffer_mib\?",
        ),
        (GOOD + '[stream]\nbuffer_mib = "64"\n', r"stream\.buffer_mib: expected int, saw \"64\""),
        (GOOD.replace('"acme"', '"acme"\npath = "{metricKey}/"'), r"path template '\{metricKey\}/': it needs at least"),
        ("= 1", r"cannot be read as TOML"),
        (GOOD + "[transform]\nsnap_start = true\nprovisioned = 2\n", r"transform\.snap_start: .* not both"),
        (GOOD + "[transform]\nprovisioned = 7\n", r"transform\.provisioned: 7 is more than the 6 executions"),
        (GOOD + '[network]\nvpc_id = "mine"\n', r"network\.vpc_id: expected a VPC's id"),
        (GOOD + '[network]\nvpc_id = "vpc-0123456789abcdef0"\n', r"network\.subnet_ids: .* go together"),
        (
            GOOD + '[network]\nvpc_id = "vpc-0123456789abcdef0"\nsubnet_ids = ["subnet-01234567"]\n',
            r"network\.subnet_ids: 1 subnets, and network\.zones is 3",
        ),
        ("defaults = 2\n" + GOOD + "[bucket]\nexisting = true\n", r"bucket\.existing: it has no name"),
        ('permissions_boundary = "bounds"\n' + GOOD, r"permissions_boundary: expected the ARN of an IAM policy"),
        ('key_arn = "alias/mine"\n' + GOOD, r"key_arn: expected an ARN of kms"),
        ('bootstrap_qualifier = "Too-Long-A-Name"\n' + GOOD, r"bootstrap_qualifier"),
        ('tags = {"aws:mine" = "x"}\n' + GOOD, r"tags: 'aws:mine' = 'x' is not a tag that AWS accepts"),
        ('tags = {lmstream = "x"}\n' + GOOD, r"tags: 'lmstream' = 'x' is not a tag"),
        (GOOD + "[operations]\nlog_days = 15\n", r"operations\.log_days"),
        (GOOD + 'kafka_version = "4.0.x"\n', r"cluster\.kafka_version"),
        (GOOD + 'kafka_version = "3.9"\n', r"cluster\.kafka_version"),
        (
            GOOD + 'kafka_version = "4.0.x.kraft"\ninstance = "kafka.t3.small"\n',
            r"cluster\.instance: kafka\.t3\.small is too small for Kafka 4\.0\.x\.kraft",
        ),
        (GOOD + '[network]\nzone_names = ["us-west-2a", "us-west-2b"]\n', r"2 different zones are named, .* is 3"),
        (GOOD + '[network]\nzone_names = ["us-west-2a", "us-west-2b", "c"]\n', r"zone_names: c: no zone of us-west-2"),
        (
            'defaults = 2\nname = "a-name-of-more-than-thirty-letters"\n' + GOOD,
            r"name: .* has 70 characters, S3 allows 63",
        ),
        (GOOD + '[bucket]\nname = "10.0.0.1"\n', r"bucket\.name: 10\.0\.0\.1 is not a valid name of an S3 bucket"),
        (GOOD + '[transform]\ngroup = "a group"\n', r"transform\.group"),
        (GOOD + 'arn = "theirs"\n', r"cluster\.arn: expected an ARN of kafka in us-west-2, saw 'theirs'"),
        (GOOD + f'arn = "{CLUSTER.replace("us-west-2", "eu-central-1")}"\n', r"expected an ARN of kafka in us-west-2"),
        (GOOD.replace("create_ca = true", 'ca_arn = "x"'), r"cluster\.ca_arn: expected an ARN of acm-pca in us-west-2"),
        ('certificate_secret = "kafka-client"\n' + GOOD, r"certificate_secret: expected an ARN of secretsmanager"),
        (f'certificate_secret = "{SECRET}"\nsecret_key = "alias/x"\n' + GOOD, r"secret_key: expected an ARN of kms"),
        (f'secret_key = "{KEY}"\n' + GOOD, r"secret_key: .* certificate_secret names none"),
        (
            GOOD + 'collector_cidrs = ["10.0.0.1/8"]\n',
            r"cluster\.collector_cidrs: expected an IPv4 network .* host bits",
        ),
        (GOOD + '[network]\ncidr = "10.0.0/16"\n', r"network\.cidr: expected an IPv4 network"),
        (GOOD + '[network]\ncidr = "10.0.0.0/24"\n', r"network\.cidr: /24; .* /16 to /20"),
        (GOOD + f'[bucket]\nname = "{"b" * 52}"\n', r"bucket\.name: b+-dead-letters has 65 characters, S3 allows 63"),
        (GOOD + "[operations]\nsilence_minutes = 2000\n", r"silence_minutes: 2000; .* a day at most"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, text)


def test_an_existing_cluster_authority_and_secret_are_named_by_their_arns(tmp_path):
    made = loaded(tmp_path, GOOD.replace("create_ca = true", f'ca_arn = "{AUTHORITY}"'))
    assert (made.cluster.ca_arn, made.cluster.create_ca) == (AUTHORITY, False)
    text = f'certificate_secret = "{SECRET}"\nsecret_key = "{KEY}"\n[engine]\norg_id = "acme"\n[cluster]\narn = "{CLUSTER}"\n'
    assert loaded(tmp_path, text).cluster.arn == CLUSTER


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


@pytest.mark.parametrize(
    ("transform", "partial", "keeps"),
    [
        ("", False, False),
        ('source = "mapping"', False, False),
        ('source = "mapping"\npollers = 1', True, True),
        ('source = "mapping"\npollers = 1\nretries = -1', True, False),
    ],
)
def test_answers_are_partial_and_batches_given_up_only_with_provisioned_pollers(tmp_path, transform, partial, keeps):
    deployment = loaded(tmp_path, f"{GOOD}[transform]\n{transform}\n")
    assert (deployment.partial_failures, deployment.keeps_failures) == (partial, keeps)


@pytest.mark.parametrize("version", ["3.8.x", "3.8.x.kraft", "3.9.x", "3.9.x.kraft", "4.0.x.kraft", "4.1.x.kraft"])
def test_kafka_versions_are_those_that_msk_names(tmp_path, version):
    made = loaded(tmp_path, GOOD + f'kafka_version = "{version}"\n')
    assert made.cluster.kafka_version == version


def test_a_file_keeps_the_defaults_it_was_written_for(tmp_path):
    old = loaded(tmp_path, 'name = "mine"\nregion = "eu-west-1"\n' + GOOD)
    assert old.cluster.kafka_version == "3.8.x"
    assert not old.cluster.create_topic
    assert old.bucket_name("metrics") == "lm-datapublisher-metrics"
    assert old.bucket_name("dead-letters") == "lm-datapublisher-metrics-dead-letters"
    assert old.network.zone_names == ("eu-west-1a", "eu-west-1b", "eu-west-1c")
    assert old.transform.pipe_name == "mine"
    new = loaded(tmp_path, "defaults = 2\n" + GOOD)
    assert new.cluster.kafka_version == "3.9.x.kraft"
    assert new.cluster.create_topic
    assert new.bucket_name("metrics", "111122223333") == "lmstream-111122223333-us-west-2-metrics"
    assert new.network.zone_names == ()
    assert new.transform.pipe_name == ""


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("", "lmstream"),
        ('name = "second"', "lmstream"),  # as it was deployed: an update must not begin another group
        ('defaults = 2\nname = "second"', "second"),
        ("defaults = 2", "lmstream"),
        ('defaults = 2\nname = "second"\ntransform = {group = "first"}', "first"),
    ],
)
def test_two_deployments_have_two_consumer_groups(tmp_path, text, group):
    assert loaded(tmp_path, f"{text}\n{GOOD}").transform.group == group


def test_a_container_of_aws_has_a_group_of_its_deployment_too(tmp_path):
    assert loaded(tmp_path, f'defaults = 2\nname = "second"\n{GOOD}').container.group == "second"


def test_what_an_old_file_says_wins_over_the_defaults_of_before(tmp_path):
    made = loaded(
        tmp_path,
        GOOD
        + 'kafka_version = "3.9.x"\n[bucket]\nname = "mine"\n[network]\nzones = 2\n[load]\n'.replace(
            "zones = 2", 'zone_names = ["us-west-2b", "us-west-2c", "us-west-2d"]'
        ),
    )
    assert (made.cluster.kafka_version, made.bucket_name("metrics")) == ("3.9.x", "mine")
    assert made.network.zone_names == ("us-west-2b", "us-west-2c", "us-west-2d")


@pytest.mark.parametrize("text", ["cluster = 1\n", 'network = "x"\n', "defaults = 3\n", '[network]\nzones = "two"\n'])
def test_an_old_file_that_is_wrong_is_refused_as_any_other(tmp_path, text):
    with pytest.raises(ConfigError, match=r"cluster|network|defaults"):
        loaded(tmp_path, text)


def test_a_path_of_before_stays_where_writers_choose_the_organization_if_the_line_is_left_out(tmp_path):
    path = 'path = "{orgKey}/{metricKey}/{yyyy}/{MM}/{dd}/{HH}/"\n'
    text = f'[engine]\norg_attributes = ["org"]\n{path}[cluster]\ncreate_ca = true\n'
    with pytest.raises(ConfigError, match=r"where rows lie there already, leave `defaults = 2` out"):
        loaded(tmp_path, f"defaults = 2\n{text}")
    assert loaded(tmp_path, text) == loaded(tmp_path, text.replace(path, ""))
