"""SQLAlchemy under OpenTelemetry's instrumentation: statements, a transaction, an error, comments in the SQL."""

from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import create_engine, exc, text

tracer = trace.get_tracer("program")


def main():
    engine = create_engine("sqlite://")
    SQLAlchemyInstrumentor().instrument(engine=engine, enable_commenter=True)
    answers = []
    with tracer.start_as_current_span("request"), engine.begin() as connection:
        connection.execute(text("create table orders (id integer)"))
        connection.execute(text("insert into orders values (:id)"), [{"id": 7}, {"id": 8}])
        answers.append(connection.execute(text("select count(*) from orders")).scalar())
        try:
            connection.execute(text("select * from nowhere"))
        except exc.OperationalError as error:
            answers.append(type(error).__name__)
    return answers
