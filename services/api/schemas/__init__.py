"""The shapes of requests and answers: what is checked at the door, and what the OpenAPI document says."""
