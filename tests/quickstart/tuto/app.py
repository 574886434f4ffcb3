from logging import Logger
from wintry.web import App
from wintry.ioc import inject
from wintry.web import (
    BackendOptions,
    ConnectionOptions,
    TransporterSettings,
    TransporterType,
    ConnectionOptions,
    WinterSettings
)

settings = WinterSettings(
    backends=[
        BackendOptions(
            name="default",
            driver="wintry.drivers.pg",
            connection_options=ConnectionOptions(
                url="postgresql+asyncpg://postgres:secret@localhost/tests"
            ),
        ),
        BackendOptions(
            name="mongo",
            driver="wintry.drivers.mongo",
            connection_options=ConnectionOptions(
                url="mongodb://localhost:27017/?replicaSet=dbrs"
            ),
        ),
    ],
    transporters=[
        TransporterSettings(
            driver="wintry.transporters.redis",
            service="RedisMicroservice",
            transporter=TransporterType.redis,
            connection_options=ConnectionOptions(url="redis://localhost"),
        )
    ],
)

app = App(settings=settings)
