-- The descriptions that held until now, until these versions.
UPDATE dataset_descriptions AS present SET until_version = next.version
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS next (project_id, dataset_id, version)
WHERE
    present.project_id = next.project_id AND present.dataset_id = next.dataset_id
    AND present.until_version IS NULL
