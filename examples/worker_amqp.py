#!/usr/bin/env python3
"""worker.py, woken by its agent's queue on RabbitMQ instead of waiting in calls over HTTP. Needs examples/requirements.txt.

    make venv
    export MARVIN_URL=http://127.0.0.1:8080 MARVIN_EMAIL=… MARVIN_PASSWORD=… MARVIN_AGENT=<the agent's id>
    export MARVIN_AMQP_URL=amqp://… MARVIN_INSTANCE=marvin
    examples/.venv/bin/python examples/worker_amqp.py

A message is only a hint. Woken by one, it leases until there is nothing left; now and then it looks without any, so that a hint that
was lost only makes a task late. What the messages mean: docs/workers.md.
"""
import os, random, signal, sys, threading, time
from datetime import datetime, timezone

import pika

from channel import Channel, Unreadable
from worker import Marvin, run

LOOK_S = float(os.environ.get("MARVIN_LOOK_S", 30))  # how late a task is found whose hint was lost
PAUSE_S = 1  # before asking again a broker that cannot be reached, or a queue that is not there yet
DUE_MAX = 1000  # retries that are waited for; the others are found by a look
TURN_S = 0.2  # how soon it is noticed that work has come or ended, while the broker hears that this program lives


class Hints:
    """Consumes the queue in a thread of its own, and only while there is room for a task: what is left is for other workers."""

    def __init__(self, channel, queue):
        self.channel, self.queue = channel, queue
        self.has_room, self.lock, self.wake = threading.Event(), threading.Lock(), threading.Event()
        self.due = []  # when hints say that it is worth looking
        self.look_at = 0  # when it is, whatever they say

    def listen(self):
        said = None
        while True:
            try:
                with pika.BlockingConnection(pika.URLParameters(os.environ["MARVIN_AMQP_URL"])) as connection:
                    said = None
                    self.take(connection)
            except (pika.exceptions.AMQPError, OSError) as trouble:
                if said != repr(trouble):
                    said = repr(trouble)
                    print(f"no hints, looking every {LOOK_S:g} s: {said}", file=sys.stderr, flush=True)
                time.sleep(PAUSE_S)

    def take(self, connection):
        messages = connection.channel()
        messages.basic_qos(prefetch_count=1)
        while True:
            connection.process_data_events(time_limit=TURN_S)
            if not self.has_room.is_set():
                continue
            for method, properties, body in messages.consume(self.queue, inactivity_timeout=TURN_S):
                if method:
                    self.told(properties, body)
                    messages.basic_ack(method.delivery_tag)
                if not self.has_room.is_set():
                    break
            messages.cancel()  # what it was handed and did not take goes back

    def told(self, properties, body):
        try:
            ready_at = self.channel.open(properties, body)["ready_at"]
            wait_s = (datetime.fromisoformat(ready_at) - datetime.now(timezone.utc)).total_seconds() if ready_at else 0
        except (Unreadable, LookupError, TypeError, ValueError) as why:
            return print(f"a message is left out: {why}", file=sys.stderr, flush=True)
        with self.lock:
            self.due = sorted([*self.due, time.monotonic() + wait_s])[:DUE_MAX]
        if wait_s <= 0:
            self.has_room.clear()
        self.wake.set()

    def looks(self):
        """Just before a look: it is the one that was due by now."""
        with self.lock:
            now = time.monotonic()
            self.due = [at for at in self.due if at > now]
            self.look_at = now + LOOK_S * random.uniform(0.8, 1)  # not all workers at once

    def wait(self):
        """Until it is worth looking."""
        self.has_room.set()
        while (left_s := min([self.look_at, *self.due]) - time.monotonic()) > 0:
            self.wake.wait(left_s)
            self.wake.clear()
        self.has_room.clear()


def main():
    stopping, busy = threading.Event(), threading.Event()

    def stop(*_):
        stopping.set()
        if not busy.is_set():
            sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    marvin, agent = Marvin(), os.environ["MARVIN_AGENT"]
    queue = f"{os.environ.get('MARVIN_INSTANCE', 'marvin')}.agent.{agent}"
    hints = Hints(Channel(Marvin(), f"agent.{agent}"), queue)
    threading.Thread(target=hints.listen, daemon=True).start()
    print(f"waiting for tasks of agent {agent}", flush=True)
    while not stopping.is_set():
        hints.looks()
        given = marvin.call(f"/api/v1/agents/{agent}/lease", {"max": 1, "wait_s": 0})
        busy.set()
        for leased in given["tasks"]:
            run(marvin, leased, given["heartbeat_s"])
        busy.clear()
        if not given["tasks"] and not stopping.is_set():
            hints.wait()


if __name__ == "__main__":
    main()
