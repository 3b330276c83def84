"""A broker that wants to know who it talks to, and in private: SASL and TLS as the address says, and clear words when
something is wrong."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pipelines import read_events

import streamflow as sf
from loadgen.kafka.broker import Cluster
from streamflow.base.errors import StreamFlowError
from streamflow.topics import codec, topics_at
from streamflow.topics.protocol import TopicConfig

pytestmark = pytest.mark.kafka

USER, PASSWORD = "ann", "s3cret-w0rd"
_PLAIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of loopback, signed by itself; its key in `key.pem` beside it, both in `both.pem`."""
    folder = tmp_path_factory.mktemp("tls")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=loopback"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*made, *files], cwd=folder, check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[Cluster]:
    settings = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": _PLAIN,
        "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": _SCRAM,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificate.with_name("both.pem")),
    }
    folder = tmp_path_factory.mktemp("secured")
    with Cluster(folder, settings=settings, listeners=["SASL_PLAINTEXT", "SSL"]) as started:
        admin = AdminClient({"bootstrap.servers": started.servers})
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        wanted = UserScramCredentialUpsertion(USER, info, PASSWORD.encode())
        for done in admin.alter_user_scram_credentials([wanted]).values():
            done.result(30)
        yield started


def sasl(cluster: Cluster, mechanism: str, password: str = PASSWORD) -> str:
    servers = cluster.servers_of("SASL_PLAINTEXT")
    return f"kafka://{USER}:{password}@{servers}?security_protocol=SASL_PLAINTEXT&sasl_mechanism={mechanism}"


def tls(cluster: Cluster, **files: object) -> str:
    options = "".join(f"&{name}={path}" for name, path in files.items())
    return f"kafka://{cluster.servers_of('SSL')}?security_protocol=SSL{options}"


def published_and_read(url: str, topic: str) -> list[bytes]:
    log = topics_at(url)
    try:
        log.create_topic(topic, TopicConfig(partitions=1))
        log.publish([codec.encode_json(topic, 0, [b"1", b"2"], [0, 0])])
        found: list[bytes] = []
        while len(found) < 2:
            found = [event for record in log.read(topic, 0, 0) for event in codec.json_documents(record)]
        assert PASSWORD not in log.url
        return found
    finally:
        log.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_user_with_the_right_password_publishes_and_reads(cluster: Cluster, mechanism: str) -> None:
    assert published_and_read(sasl(cluster, mechanism), f"sasl-{mechanism}") == [b"1", b"2"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_wrong_password_is_told_without_it(cluster: Cluster, mechanism: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StreamFlowError, match=r"refuses these credentials.*Check user, password") as told:
        topics_at(sasl(cluster, mechanism, "wr0ng-w0rd"))
    assert "wr0ng-w0rd" not in f"{told.value} {told.value.__cause__!r} {caplog.text}"


def test_tls_with_the_brokers_authority_publishes_and_reads(cluster: Cluster, certificate: Path) -> None:
    assert published_and_read(tls(cluster, cafile=certificate), "tls") == [b"1", b"2"]


def test_certificate_of_an_unknown_authority_is_told_with_the_option_to_give(cluster: Cluster) -> None:
    with pytest.raises(StreamFlowError, match=r"certificate.*cafile="):
        topics_at(tls(cluster))


def test_missing_file_of_an_authority_is_told_with_its_name(cluster: Cluster) -> None:
    with pytest.raises(StreamFlowError, match=r"can't be used.*Check cafile=/nowhere/ca\.pem"):
        topics_at(tls(cluster, cafile="/nowhere/ca.pem", password=PASSWORD))


def test_plain_words_to_a_broker_that_wants_tls_are_told(cluster: Cluster) -> None:
    with pytest.raises(StreamFlowError, match="can't be reached"):
        topics_at(f"kafka://{cluster.servers_of('SSL')}?request_timeout_ms=2000")


@pytest.mark.parametrize("protocol", ["PLAIN", "SCRAM-SHA-512", "SSL"])
def test_pipelines_run_where_the_address_says_who_asks(cluster: Cluster, certificate: Path, protocol: str) -> None:
    url = tls(cluster, cafile=certificate) if protocol == "SSL" else sasl(cluster, protocol)
    name = f"run-{protocol.lower()}"
    pipeline = sf.Pipeline(name)
    pipeline | sf.Create([1, 2]) | sf.WriteToTopic(f"{name}-out")
    pipeline.run(on=url)
    log = topics_at(url)
    assert sorted(read_events(log, f"{name}-out")) == [1, 2]
    log.close()
