// Idempotency keys: the same body keeps its key until it has been sent, so that trying again never does it twice.

export class Repeatable {
  #body: string | null = null;
  #key = "";

  keyFor(body: unknown): string {
    const text = JSON.stringify(body);
    if (text !== this.#body) {
      this.#body = text;
      this.#key = crypto.randomUUID();
    }
    return this.#key;
  }

  /** It was sent: the same body once more is meant as a second one. */
  done(): void {
    this.#body = null;
  }
}
