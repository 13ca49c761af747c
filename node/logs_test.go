package node

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

func TestLogHandler(t *testing.T) {
	engine := runtimetest.NewFake(image1)
	ctx := context.Background()
	if err := engine.Configure(ctx, runtime.Network{PodCIDR: mustPrefix("10.0.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	pod := aPod("web", func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "later"}) })
	s, err := engine.EnsureSandbox(ctx, pod)
	if err != nil {
		t.Fatal(err)
	}
	for n, text := range []string{"zero\n", "one\ntwo\n"} {
		engine.Behave(func(runtime.ContainerConfig) runtimetest.Behaviour {
			return runtimetest.Behaviour{Output: text, Exits: true}
		})
		if err := engine.StartContainer(ctx, s, runtime.ContainerConfig{Pod: pod, Container: &pod.Spec.Containers[0], Attempt: n}); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(LogHandler(engine))
	defer srv.Close()
	for name, tc := range map[string]struct {
		path, want string
		code       int
	}{
		"newest":              {"default/web/app", "one\ntwo\n", 200},
		"previous":            {"default/web/app?previous=true", "zero\n", 200},
		"tail":                {"default/web/app?tail=1", "two\n", 200},
		"limit":               {"default/web/app?limit=2", "on", 200},
		"followed to its end": {"default/web/app?follow=true", "one\ntwo\n", 200},
		"right uid":           {"default/web/app?uid=uid-web", "one\ntwo\n", 200},
		"wrong uid":           {"default/web/app?uid=other", "waiting to start", 400},
		"no such Pod":         {"default/none/app", "waiting to start", 400},
		"no such container":   {"default/web/none", "it has app, later", 400},
		"not started":         {"default/web/later", "waiting to start", 400},
		"bad tail":            {"default/web/app?tail=x", "query parameter tail", 400},
		"bad since":           {"default/web/app?since=yesterday", "query parameter since", 400},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := http.Get(srv.URL + LogPath + tc.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.code {
				t.Fatalf("status = %d, want %d: %s", resp.StatusCode, tc.code, body)
			}
			if tc.code == 200 {
				if string(body) != tc.want {
					t.Errorf("log = %q, want %q", body, tc.want)
				}
				return
			}
			var status metav1.Status
			if err := json.Unmarshal(body, &status); err != nil || status.Kind != "Status" || !strings.Contains(status.Message, tc.want) {
				t.Errorf("answer = %s, want a Status that says %q", body, tc.want)
			}
		})
	}
}
