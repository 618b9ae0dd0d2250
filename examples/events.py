#!/usr/bin/env python3
"""Prints Marvin's events from RabbitMQ, each once and in order, one JSON object a line. Needs examples/requirements.txt.

    make venv
    export MARVIN_URL=http://127.0.0.1:8080 MARVIN_EMAIL=… MARVIN_PASSWORD=… MARVIN_AMQP_URL=amqp://… MARVIN_INSTANCE=marvin
    examples/.venv/bin/python examples/events.py

MARVIN_AFTER is the position of the last event that you have; without it, it begins with what happens from now on. MARVIN_QUEUE is the
name of its queue, `<instance>.outside.events` where you say none. Messages may come twice, late or never: positions have no gap, so what
is missing is seen, and after a moment read from Marvin's log itself. What the messages hold: docs/rabbitmq.md.
"""
import json, os, signal, sys, time

import pika

from channel import Channel, Unreadable
from worker import Marvin

INSTANCE = os.environ.get("MARVIN_INSTANCE", "marvin")
QUEUE = os.environ.get("MARVIN_QUEUE", f"{INSTANCE}.outside.events")
QUEUE_MESSAGES_MAX = 100_000  # in the queue while this program is away; what is refused there is read from the log
HANDED_MAX = 500  # unacknowledged at once: more than are held
HELD_MAX = 250  # that came before their turn
LATE_S = 2  # for a message that is missing, before the log is asked
TURN_S = 0.5  # how often it is seen whether one is late
PAGE = 1000
PAUSE_S = 1  # before asking again a broker that cannot be reached


def say(words):
    print(words, file=sys.stderr, flush=True)


class Feed:
    """Puts events into the order of their positions, and knows which are missing."""

    def __init__(self, marvin, after):
        self.marvin, self.printed = marvin, after
        self.held = {}
        self.doubt_at = None  # since when something is missing, or may be

    def offer(self, event):
        """Prints it when it is its turn; answers the positions that are done with."""
        if event["position"] <= self.printed:
            return [event["position"]]  # again
        self.held[event["position"]] = event
        done = []
        while self.printed + 1 in self.held:
            print(json.dumps(self.held.pop(self.printed + 1)), flush=True)
            self.printed += 1
            done.append(self.printed)
        if not self.held:
            self.doubt_at = None
        elif self.doubt_at is None or done:
            self.doubt()
        return done

    def doubt(self):
        self.doubt_at = time.monotonic()

    def is_late(self):
        return self.doubt_at is not None and (time.monotonic() - self.doubt_at > LATE_S or len(self.held) > HELD_MAX)

    def read_log(self):
        """Fills what is missing, up to what is held or the end of the log."""
        self.doubt_at, first, last, done = None, self.printed + 1, max(self.held, default=None), []
        is_over = False
        while not is_over:
            before = self.printed
            for event in self.marvin.call(f"/api/v1/events?after={before}&limit={PAGE}"):
                done += self.offer({**told(event), "position": int(event["position"]), "facts": event["data"]["facts"]})
            is_over = self.printed == before or last is not None and self.printed >= last
        if done:
            say(f"read from the log: {first} to {self.printed}")
        if self.held:
            self.doubt()
        return done


def told(attributes):
    return {name: attributes[name] for name in ("id", "type", "subject", "time", "actor")}


def event_of(channel, properties, body):
    facts = channel.open(properties, body)["facts"]
    prefix = "cloudEvents:"
    attributes = {name.removeprefix(prefix): value for name, value in properties.headers.items() if name.startswith(prefix)}
    return {**told(attributes), "position": int(attributes["position"]), "facts": facts}


def bind(messages):
    limits = {"x-queue-type": "quorum", "x-max-length": QUEUE_MESSAGES_MAX, "x-overflow": "reject-publish"}
    messages.queue_declare(QUEUE, durable=True, arguments=limits)
    messages.queue_bind(QUEUE, f"{INSTANCE}.events", "#")
    messages.basic_qos(prefetch_count=HANDED_MAX)


def consume(messages, feed, channel):
    """Acknowledges what is printed: what is only held is handed out again to whoever consumes next."""
    feed.held.clear()
    feed.doubt()  # something may have been refused meanwhile
    tags = {}  # of each position
    for method, properties, body in messages.consume(QUEUE, inactivity_timeout=TURN_S):
        done = []
        if method:
            try:
                event = event_of(channel, properties, body)
            except (Unreadable, LookupError, TypeError, ValueError) as why:
                say(f"a message is left out: {why}")
                messages.basic_ack(method.delivery_tag)
                feed.doubt()  # it may stand for an event
            else:
                tags.setdefault(event["position"], []).append(method.delivery_tag)
                done = feed.offer(event)
        if feed.is_late():
            done += feed.read_log()
        for position in done:
            for tag in tags.pop(position, []):
                messages.basic_ack(tag)


def main():
    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), lambda *_: sys.exit(0))
    marvin, feed, channel, said = Marvin(), None, None, None
    while True:
        try:
            with pika.BlockingConnection(pika.URLParameters(os.environ["MARVIN_AMQP_URL"])) as connection:
                messages = connection.channel()
                bind(messages)  # before anything is asked: what happens from then on comes
                if not feed:
                    channel = Channel(marvin, "events")
                    feed = Feed(marvin, int(os.environ.get("MARVIN_AFTER", marvin.position)))
                said = None
                say(f"waiting for events behind {feed.printed}")
                consume(messages, feed, channel)
        except (pika.exceptions.AMQPError, OSError) as trouble:
            if said != repr(trouble):
                said = repr(trouble)
                say(f"no messages, trying again: {said}")
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
