package e2e

import (
	"context"
	"fmt"
	"net/url"
)

// noContext is for commands that end by themselves.
var noContext = context.Background()

func urlQuery(b []byte) string { return url.QueryEscape(string(b)) }

// deployment is a Deployment of the hello image with a readiness probe.
func deployment(name, image string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
spec:
  replicas: %[3]d
  selector:
    matchLabels: {app: %[1]s}
  template:
    metadata:
      labels: {app: %[1]s}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: app
        image: %[2]s
        ports:
        - {name: http, containerPort: 8080}
        readinessProbe:
          httpGet: {path: /healthz, port: http}
          periodSeconds: 1
`, name, image, replicas)
}
