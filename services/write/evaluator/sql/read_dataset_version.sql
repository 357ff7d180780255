SELECT version FROM experiments.datasets WHERE project_id = $1 AND dataset_id = $2
