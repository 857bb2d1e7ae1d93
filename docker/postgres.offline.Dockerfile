# PostgreSQL from Debian's package, with the environment variables of the official image that we use.
ARG BASE
FROM ${BASE}
COPY postgres_offline.sh /usr/local/bin/
ENV PGDATA=/var/lib/postgresql/data/db PATH=/usr/lib/postgresql/15/bin:$PATH
RUN install -d -o postgres -g postgres /var/lib/postgresql/data
USER postgres
ENTRYPOINT ["sh", "/usr/local/bin/postgres_offline.sh"]
