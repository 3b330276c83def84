"""The command `streamflow pubsub-server`: what it says, how it begins and how it ends."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from google.api_core import exceptions
from google_clients import BIN, Google, started, until

import streamflow as sf


def test_clients_go_on_when_a_server_on_the_same_folder_is_started_anew(tmp_path: Path):
    data = str(tmp_path / "data")
    server = started(data)
    port = int(server.address.rpartition(":")[2])
    seen: list[bytes] = []
    with Google(server.address) as google:
        topic = google.topic()
        subscription = google.subscription(topic)

        def callback(message: object) -> None:
            seen.append(message.data)
            message.ack()

        with google.stream(subscription, callback):
            google.publish(topic, b"1")
            until(lambda: seen == [b"1"])
            assert server.stop() == 0
            server = started(data, port=port)
            google.publish(topic, b"2")
            until(lambda: seen == [b"1", b"2"])
    assert server.stop() == 0
    with sf.connect_sync(data) as client:
        name = subscription.rpartition("/")[2]
        assert client.backlog(name).events == 0


def test_what_was_confirmed_is_so_after_the_server_was_killed(tmp_path: Path):
    data = str(tmp_path / "data")
    server = started(data)
    with Google(server.address) as google:
        topic = google.topic()
        subscription = google.subscription(topic, enable_exactly_once_delivery=True)
        google.publish(topic, *[b"%d" % n for n in range(100)])
        acked = google.pull(subscription, 40)
        google.ack(subscription, acked)
        server.process.kill()
        server.process.communicate()
    server = started(data)
    with Google(server.address) as google:
        left = google.pull(subscription, 60)
        google.ack(subscription, left)
        assert google.now(subscription) == []
    assert sorted(int(each.message.data) for each in [*acked, *left]) == list(range(100))
    assert server.stop() == 0


def test_ctrl_c_ends_waiting_pulls_with_an_answer(tmp_path: Path):
    server = started("memory://")
    with Google(server.address) as google:
        subscription = google.subscription(google.topic())
        answers: list[int] = []

        def pull() -> None:
            answers.append(len(google.subscriber.pull(subscription=subscription, max_messages=1).received_messages))

        puller = threading.Thread(target=pull)
        puller.start()
        google.subscriber.get_subscription(subscription=subscription)
        assert server.stop() == 0
        puller.join(10)
        assert answers == [0]


def test_with_a_project_no_other_is_served():
    server = started("memory://", "--project", "mine", "--partitions", "1")
    with Google(server.address) as google:
        with pytest.raises(exceptions.NotFound, match="project 'project-a' is not served here, only 'mine' is"):
            google.topic()
        topic = google.publisher.create_topic(name="projects/mine/topics/t").name
        assert [id.partition("-")[0] for id in google.publish(topic, b"1", b"2")] == ["0", "0"]
    assert server.stop() == 0


def test_other_clients_of_the_folder_see_the_same_topics(tmp_path: Path):
    data = str(tmp_path / "data")
    server = started(data)
    with Google(server.address) as google, sf.connect_sync(data) as client:
        client.create_topic("clicks", partitions=2)
        client.create_subscription("ours", "clicks")
        topic = google.publisher.topic_path("any", "clicks")
        [id] = google.publish(topic, b"x", kind="view")
        [message] = client.pull("ours", wait_s=5)
        assert (message.message_id, message.data, message.attributes) == (id, b"x", {"kind": "view"})
    assert server.stop() == 0


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [BIN / "streamflow", "pubsub-server", "--data", "memory://", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"port {port} on '127.0.0.1' can't be had" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_extra_the_command_says_what_to_install():
    code = (
        "import sys; sys.modules['google.pubsub_v1'] = None\n"
        "from streamflow.cli import main\n"
        "sys.argv = ['streamflow', 'pubsub-server', '--data', 'memory://']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'streamflow[pubsub]'" in done.stderr
