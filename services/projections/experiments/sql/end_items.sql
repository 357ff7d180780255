-- What held of items before these versions, until these. By the order of keys, as in load_results.sql.
UPDATE dataset_items AS present SET until_version = ended.version
FROM (
    SELECT last.place, next.version
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS next (project_id, dataset_id, item_id, version)
    CROSS JOIN LATERAL (
        SELECT project_id, dataset_id, item_id, ctid AS place FROM dataset_items AS item
        WHERE
            (item.project_id, item.dataset_id, item.item_id, item.version)
            < (next.project_id, next.dataset_id, next.item_id, next.version)
        ORDER BY item.project_id DESC, item.dataset_id DESC, item.item_id DESC, item.version DESC
        LIMIT 1
    ) AS last
    WHERE (last.project_id, last.dataset_id, last.item_id) = (next.project_id, next.dataset_id, next.item_id)
) AS ended
WHERE present.ctid = ended.place
