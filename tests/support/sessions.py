"""What a session must be, by SQL of its own: everything its traces add up to, grouped anew."""

import asyncpg

_MUST_BE = """
SELECT to_jsonb(must) ::text AS row FROM (
    SELECT
        project_id, session_id, min(start_at) AS start_at, max(last_start_at) AS last_start_at,
        max(CASE WHEN end_at > last_start_at THEN end_at ELSE last_start_at END) AS end_at,
        count(*) AS trace_count, sum(CASE WHEN level_counts[4] > 0 THEN 1 ELSE 0 END) AS error_count,
        sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(total_tokens) AS total_tokens,
        sum(cost_picos) AS cost_picos,
        coalesce((array_agg(DISTINCT user_id COLLATE "C") FILTER (WHERE user_id IS NOT NULL))[:100], '{}') AS user_ids,
        coalesce((array_agg(DISTINCT environment COLLATE "C") FILTER (WHERE environment IS NOT NULL))[:100], '{}')
            AS environments
    FROM traces WHERE session_id IS NOT NULL GROUP BY project_id, session_id
) AS must ORDER BY 1
"""


async def sessions_that_must_be(database: asyncpg.Pool | asyncpg.Connection) -> list[str]:
    """Rows as Projecting.dump() has them."""
    return [record["row"] for record in await database.fetch(_MUST_BE)]
