"""The numbers of a run for monitoring: kept while it grows, and told to Prometheus or over OTLP."""
