"""What Celery does for comparison: one rule, as the agent of the benchmark has it."""
import os

from celery import Celery

app = Celery("tasks", broker=os.environ["CELERY_BROKER"], backend=os.environ["CELERY_BACKEND"])
app.conf.broker_connection_retry_on_startup = True


@app.task(name="decide")
def decide(order):
    matched, outputs = [], []
    if order["amount"] > 1000:
        matched.append("large order")
        outputs.append({"size": "large", "amount": order["amount"]})
    return {"matched": matched, "outputs": outputs}
