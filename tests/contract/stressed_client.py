"""A few threads that pull, ack, nack, and sometimes seek, until there is nothing left; each step is noted.

    stressed_client.py FOLDER NOTES SEED THREADS

Notes: G (granted) and A (an ack that held), with the message, its delivery and its epoch. Run by the tests.
"""

import os
import random
import sys
import threading
from collections.abc import Sequence

from streamflow.topics import open_log
from streamflow.topics.client.consuming import Consumer, Delivery
from streamflow.topics.subscriptions import AckStatus


def work(consumer: Consumer, notes: int, draw: random.Random, seeks: Sequence[int]) -> None:
    def note(kind: str, each: Delivery) -> None:
        epoch, attempt, start, _ = each.lease.id
        os.write(notes, f"{kind} {each.lease.partition} {start} {epoch} {attempt}\n".encode())

    rounds = 0
    while True:
        found = consumer.pull(draw.randrange(1, 40)).found
        rounds += bool(found)
        for each in found:
            note("G", each)
        if not found and not consumer.backlog().events:
            return
        draw.shuffle(found := list(found))
        acks = [each for each in found if draw.random() < 0.7]
        nacks = [each for each in found if each not in acks]
        statuses, _ = consumer.settle([each.lease for each in acks], [(each.lease, 0) for each in nacks])
        late = []
        for each, status in zip(acks, statuses, strict=True):
            if status is AckStatus.HELD:
                note("A", each)
            elif status is AckStatus.OUT_OF_ORDER:
                late.append(each.lease)
        consumer.modify(late, 0)
        if found and rounds in seeks:
            consumer.seek("begin")


def main(folder: str, notes: str, seed: str, threads: str) -> None:
    log = open_log(folder)
    file = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    workers = [
        threading.Thread(
            target=work,
            args=(Consumer(log.subscriptions, "s"), file, random.Random(f"{seed}/{nth}"), [(), (2, 5)][nth == 0]),
        )
        for nth in range(int(threads))
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
