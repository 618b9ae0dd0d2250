"""Opens what Marvin seals on RabbitMQ: the keys of a channel, and what they open. Used by events.py and worker_amqp.py."""
import base64, json, sys, time

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
from nacl.exceptions import CryptoError

ASK_PAUSE_S = 10  # before asking for keys once more: each call is on record, and anybody can name a key that there is not
NONCE_BYTES = 24


class Unreadable(Exception):
    """A message that is not Marvin's, or that somebody changed."""


class Channel:
    def __init__(self, marvin, name):
        self.marvin, self.name = marvin, name
        self.asked_again = float("-inf")
        self.ask()

    def ask(self):
        """Fetches the keys: of this hour and the week before. Those of earlier ones are of no use any more."""
        told = self.marvin.call(f"/api/v1/channels/{self.name}/keys")
        self.keys = {key["id"]: base64.b64decode(key["key"]) for key in told["keys"]}
        print(f"{self.name}: {len(self.keys)} keys, the newest is {told['keys'][0]['id']}", file=sys.stderr, flush=True)

    def key(self, name):
        is_ours = isinstance(name, str) and name.startswith(f"{self.name}/")
        if is_ours and name not in self.keys and time.monotonic() - self.asked_again >= ASK_PAUSE_S:
            self.asked_again = time.monotonic()
            self.ask()  # a new hour has begun
        if not is_ours or name not in self.keys:
            raise Unreadable(f"it names no key of {self.name}: {name!r}")
        return self.keys[name]

    def open(self, properties, body):
        """The JSON that was sealed. Every header of Marvin's is authenticated with it: none can be changed or left out."""
        headers = {name: value for name, value in (properties.headers or {}).items() if isinstance(value, str)}
        key = self.key(headers.get("marvin-key"))
        ours = (f"{name}={value}\n".encode() for name, value in headers.items() if name.startswith(("cloudEvents:", "marvin-")))
        try:
            return json.loads(decrypt(body[NONCE_BYTES:], b"".join(sorted(ours)), body[:NONCE_BYTES], key))
        except (CryptoError, ValueError, TypeError) as why:
            raise Unreadable(f"it does not open under {headers['marvin-key']}: {why}") from None
