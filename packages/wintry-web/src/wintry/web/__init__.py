"""Class controllers, binding, OpenAPI and broker listeners on Starlette."""
