-- Runs of which nothing is left to do have come to their end.
UPDATE evaluator.runs SET look_at = now()
FROM unnest($1::text[], $2::text[]) AS its (project_id, run_id)
WHERE
    runs.project_id = its.project_id AND runs.run_id = its.run_id AND runs.state IN (1, 2)
    AND NOT EXISTS (
        SELECT FROM evaluator.jobs
        WHERE
            jobs.project_id = runs.project_id AND jobs.run_id = runs.run_id AND jobs.state < 3
            AND (
                jobs.state > 0
                OR (runs.max_picodollars IS NULL OR runs.spent_picodollars < runs.max_picodollars)
                AND (runs.ends_by IS NULL OR now() < runs.ends_by)
            )
    )
