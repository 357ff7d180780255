-- Those of the providers that no worker has offered for as long as one is waited for, and all that are offered.
SELECT
    ARRAY(
        SELECT wanted.provider
        FROM unnest($1::text[]) AS wanted (provider)
        LEFT JOIN lodestream.providers AS known ON known.provider = wanted.provider AND known.offered_until > now()
        WHERE known.provider IS NULL
    ) AS gone,
    ARRAY(SELECT provider FROM lodestream.providers WHERE offered_until > now() ORDER BY provider) AS offered
