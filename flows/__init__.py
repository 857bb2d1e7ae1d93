"""The command line, and (later) Prefect flows and deployments around the pipeline."""
