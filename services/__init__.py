"""The processes, by stage: each is `python -m services.<stage>.<name>`. They meet in topics, protos and environment."""
