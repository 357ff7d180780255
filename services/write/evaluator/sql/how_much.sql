-- How much of each run could begin now (at most $3), and how much of it and of its project is under way.
SELECT
    wanted.project_id,
    wanted.run_id,
    (
        SELECT count(*) FROM (
            SELECT FROM evaluator.jobs
            WHERE
                jobs.project_id = wanted.project_id AND jobs.run_id = wanted.run_id AND jobs.state = 0
                AND jobs.next_at <= now()
            LIMIT $3
        ) AS ready
    ) AS ready,
    (
        SELECT count(*) FROM evaluator.jobs
        WHERE jobs.project_id = wanted.project_id AND jobs.run_id = wanted.run_id AND jobs.state = 1
    ) AS of_run,
    (
        SELECT count(*) FROM evaluator.jobs
        WHERE
            jobs.project_id = wanted.project_id AND jobs.state = 1
            AND jobs.run_id IN (
                SELECT runs.run_id FROM evaluator.runs WHERE runs.project_id = wanted.project_id AND runs.state IN (1, 2)
            )
    ) AS of_project
FROM unnest($1::text[], $2::text[]) AS wanted (project_id, run_id)
