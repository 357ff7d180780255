-- Traces by one of their scores: of several on a trace the one that comes first. The index scores_by_number gives them in
-- order; scores_of_trace tells whether another one comes before.
SELECT given.trace_id AS scored_trace_id, given.number AS ranked_score
FROM scores AS given
WHERE
    given.project_id = $1 AND given.name = {name} AND given.number IS NOT NULL AND given.trace_id IS NOT NULL
    AND NOT given.retracted
    AND NOT EXISTS (
        SELECT FROM scores AS other
        WHERE
            other.project_id = given.project_id AND other.trace_id = given.trace_id AND other.name = given.name
            AND NOT other.retracted AND (other.number, other.score_id) {before} (given.number, given.score_id)
    )
