"""Evaluators as plain JSON: the same spec evaluates in a program and in the server's workers alike.

    evaluator = evaluator_of({"kind": "contains", "value": "14 days", "ignore_case": True})
    evaluation = await evaluator.evaluate(Case(output="It takes 30 days."))
    evaluation.value, evaluation.comment
    # False, "'14 days' is not in 'It takes 30 days.'"

They need `pip install 'lodestream[experiments]'`.
"""

from lodestream_evals.evaluators import (
    KINDS,
    RUN_KINDS,
    Answer,
    Ask,
    Case,
    Evaluator,
    EvaluatorError,
    EvaluatorSpecError,
    FindPrompt,
    FindSchemaProblems,
    Judged,
    Message,
    RunEvaluator,
    SchemaCrashError,
    SchemaFindings,
    SchemaProcess,
    SchemaTimeoutError,
    SchemaUnansweredError,
    Tools,
    ValueType,
    evaluator_of,
    evaluators_of,
    run_evaluator_of,
    run_evaluators_of,
    with_prompt_version,
)

__all__ = [
    "KINDS",
    "RUN_KINDS",
    "Answer",
    "Ask",
    "Case",
    "Evaluator",
    "EvaluatorError",
    "EvaluatorSpecError",
    "FindPrompt",
    "FindSchemaProblems",
    "Judged",
    "Message",
    "RunEvaluator",
    "SchemaCrashError",
    "SchemaFindings",
    "SchemaProcess",
    "SchemaTimeoutError",
    "SchemaUnansweredError",
    "Tools",
    "ValueType",
    "evaluator_of",
    "evaluators_of",
    "run_evaluator_of",
    "run_evaluators_of",
    "with_prompt_version",
]
