// Shows the OpenAPI document of this server with Swagger UI, asking nobody else (no validator badge).
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", validatorUrl: null, deepLinking: true });
