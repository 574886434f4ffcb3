"""Real servers for the tests of the workspace: PostgreSQL, MongoDB and Redis, private to one test run.

`plugin.py` has the fixtures. A test run has at most one *supervisor*, a process that starts when a test asks for the
first server, or together with the workers of pytest-xdist. It owns every server and every data folder. The processes
of the run talk to it over a Unix socket (`run.py`), and it ends when the process that began the run does, however that
ends: a supervisor reads from a pipe that only its starter holds, and the kernel signals it besides.

    programs.py     where the servers' programs are: wheels, then the system
    daemon.py       one server: start, readiness, stop, kill, pause; nothing of it is left behind
    postgres.py  mongodb.py  redis.py  rabbitmq.py  nats.py     what is special in each
    kinds.py        the table of all servers by name: a further one is a module and a row here
    supervisor.py   the process that owns them
    run.py          its clients: the run, and the handle of a server
    databases.py    a fresh database on a server, and its end
    plugin.py       the fixtures
"""
