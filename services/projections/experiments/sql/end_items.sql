-- The items that held until now, until these versions.
UPDATE dataset_items AS present SET until_version = next.version
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS next (project_id, dataset_id, item_id, version)
WHERE
    present.project_id = next.project_id AND present.dataset_id = next.dataset_id AND present.item_id = next.item_id
    AND present.until_version IS NULL
