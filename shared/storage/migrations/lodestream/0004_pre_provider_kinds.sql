-- What a provider is, and so which parameters a run may set for it (shared/read_model/model_parameters.py).
ALTER TABLE providers ADD COLUMN kind text NOT NULL DEFAULT 'openai';
