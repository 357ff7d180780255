"""A model for demos and tests, behind the door that client libraries know: OpenAI's HTTP API.

The same seed and messages get the same answer, after a time and for tokens as a real one's, from
`lodestream_evals.mock_model`. Errors, limits and latency come from the environment, and from each request
(`behaviour.py`). It keeps nothing but a list of the calls it got, in memory, and is no part of a production deployment.
"""
