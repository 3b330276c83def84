"""A publisher or subscriber that works until it is killed, or until there is nothing left to do.

    killed_client.py publish FOLDER CLOCK UNTIL     messages 0, 1, 2, … up to UNTIL
    killed_client.py push FOLDER CLOCK ""           pushes without end
    killed_client.py subscribe FOLDER CLOCK NOTES   notes each delivery (D) and each confirmed ack (A)

CLOCK is a file with the seconds that time is ahead, so that leases of the dead end without waiting. Run by the tests.
"""

import asyncio
import os
import sys
from pathlib import Path

import streamflow as sf
from streamflow.base.clock import SystemClock
from streamflow.topics.client import Client

KEYS = 5


class FileClock:
    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._real = SystemClock()

    def now_us(self) -> int:
        return self._real.now_us() + int(self._path.read_text()) * 1_000_000

    def monotonic_s(self) -> float:
        return self._real.monotonic_s()


async def publish(client: Client, until: int) -> None:
    async with client.publisher("t", name="p") as publisher:
        print("ready", flush=True)
        while (first := publisher.last_sequence + 1) < until:
            numbers = range(first, min(first + 20, until))
            await asyncio.gather(
                *(publisher.publish(str(n).encode(), ordering_key=f"k{n % KEYS}", sequence=n) for n in numbers)
            )
            await asyncio.sleep(0.01)


async def subscribe(client: Client, notes: int) -> None:
    def note(kind: str, message) -> None:
        os.write(notes, f"{kind} {message.message_id} {message.data.decode()} {message.delivery_attempt}\n".encode())

    async def ack(message) -> None:
        if await message.ack() is sf.AckStatus.HELD:
            note("A", message)

    async with client.subscriber("s", flow=sf.Flow(messages_max=200)) as subscriber:
        print("ready", flush=True)
        acks: set[asyncio.Task] = set()
        while True:
            try:
                message = await asyncio.wait_for(anext(subscriber), 1)
            except TimeoutError:
                if not (await subscriber.backlog()).events:
                    return
                continue
            note("D", message)
            task = asyncio.create_task(ack(message))
            acks.add(task)
            task.add_done_callback(acks.discard)


async def main(role: str, folder: str, clock: str, last: str) -> None:
    async with sf.connect(folder, clock=FileClock(clock)) as client:
        if role == "publish":
            await publish(client, int(last))
        elif role == "push":
            await client.push("s")
        else:
            await subscribe(client, os.open(last, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
