"""Reads metrics with the Prometheus project's own parser, which accepts only OpenMetrics.

The text comes on standard input. The answer on standard output is a JSON list of
[name, labels, value], one for each sample.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

samples = []
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, f"{family.name} says nothing about itself"
    samples += [[sample.name, sample.labels, sample.value] for sample in family.samples]
json.dump(samples, sys.stdout)
