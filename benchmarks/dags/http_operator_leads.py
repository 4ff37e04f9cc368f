"""What one would write with the http provider: two requests per lead, each a mapped task."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG

from benchmarks.people import capture_fields, people
from benchmarks.subjects.subject import API_KEY, SELLER_TOKEN

LEADS = int(os.environ["POPIN_BENCHMARK_LEADS"])
SLOT = os.environ["POPIN_BENCHMARK_SLOT"]
HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "X-API-KEY": API_KEY,
    "X-TOKEN": SELLER_TOKEN,
}

with DAG("http_operator_leads", schedule="@once", start_date=datetime(2025, 1, 1, tzinfo=UTC), catchup=False):
    capture = HttpOperator.partial(
        task_id="capture",
        http_conn_id="benchmark_popin",
        endpoint="api/v1/external/capture",
        headers=HEADERS,
        response_filter=lambda response: response.json()["customer_id"],
    ).expand(data=[json.dumps(capture_fields(person)) for person in people(LEADS)])
    HttpOperator.partial(
        task_id="schedule",
        http_conn_id="benchmark_popin",
        endpoint="api/v1/external/schedule",
        headers=HEADERS,
    ).expand(data=capture.output.map(lambda customer: json.dumps({"customer_id": customer, "time": SLOT})))
