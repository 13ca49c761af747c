package node

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/routing"
	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

func linkedService(namespace, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
}

func TestServicesInTheEnvironmentAreKubernetes(t *testing.T) {
	services := []*corev1.Service{
		linkedService("a", "headless", corev1.ClusterIPNone, corev1.ServicePort{Port: 1}),
		linkedService("a", "none-yet", "", corev1.ServicePort{Port: 1}),
		linkedService("a", "redis-master", "10.0.0.11", corev1.ServicePort{Name: "p-1", Port: 6379}, corev1.ServicePort{Name: "q", Port: 53, Protocol: corev1.ProtocolUDP}),
	}
	c := &corev1.Container{Env: []corev1.EnvVar{
		{Name: "URL", Value: "redis://$(REDIS_MASTER_SERVICE_HOST):$(REDIS_MASTER_SERVICE_PORT_Q)/$(NONE)"},
		{Name: "REDIS_MASTER_PORT", Value: "mine"},
	}}
	got, err := environment(c, sources{Pod: &corev1.Pod{}, Services: services})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"URL=redis://10.0.0.11:53/$(NONE)",
		"REDIS_MASTER_PORT=mine",
		"REDIS_MASTER_SERVICE_HOST=10.0.0.11",
		"REDIS_MASTER_SERVICE_PORT=6379",
		"REDIS_MASTER_SERVICE_PORT_P_1=6379",
		"REDIS_MASTER_SERVICE_PORT_Q=53",
		"REDIS_MASTER_PORT_6379_TCP=tcp://10.0.0.11:6379",
		"REDIS_MASTER_PORT_6379_TCP_PROTO=tcp",
		"REDIS_MASTER_PORT_6379_TCP_PORT=6379",
		"REDIS_MASTER_PORT_6379_TCP_ADDR=10.0.0.11",
		"REDIS_MASTER_PORT_53_UDP=udp://10.0.0.11:53",
		"REDIS_MASTER_PORT_53_UDP_PROTO=udp",
		"REDIS_MASTER_PORT_53_UDP_PORT=53",
		"REDIS_MASTER_PORT_53_UDP_ADDR=10.0.0.11",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhichServicesAPodIsToldOf(t *testing.T) {
	service := func(namespace, name string) *corev1.Service { return linkedService(namespace, name, "10.0.0.1") }
	first := []*corev1.Service{service("default", "kubernetes"), service("default", "other")}
	for name, tc := range map[string]struct {
		own     []*corev1.Service
		enabled *bool
		want    []string
	}{
		"by default":            {[]*corev1.Service{service("a", "db"), service("a", "web")}, nil, []string{"a/db", "default/kubernetes", "a/web"}},
		"wanted":                {[]*corev1.Service{service("a", "db")}, ptr.To(true), []string{"a/db", "default/kubernetes"}},
		"not wanted":            {[]*corev1.Service{service("a", "kubernetes")}, ptr.To(false), []string{"default/kubernetes"}},
		"one of the API's name": {[]*corev1.Service{service("a", "kubernetes")}, nil, []string{"a/kubernetes"}},
		"in the default one":    {first, nil, []string{"default/kubernetes", "default/other"}},
		"not wanted there":      {first, ptr.To(false), []string{"default/kubernetes"}},
	} {
		var got []string
		for _, svc := range linked(&corev1.Pod{Spec: corev1.PodSpec{EnableServiceLinks: tc.enabled}}, tc.own, first) {
			got = append(got, svc.Namespace+"/"+svc.Name)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := linked(&corev1.Pod{}, nil, nil); len(got) > 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestAStartWaitsForWordOfServicesButNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{tools: &tools{routes: routing.New(routing.Config{})}}
		s := start{pod: &corev1.Pod{}, container: &corev1.Container{}}
		for name, before := range map[string][]string{"it never ran": nil, "as it ran before": {"WEB_SERVICE_HOST=10.0.0.1"}} {
			begun := time.Now()
			s.env = before
			got, _, err := w.environment(t.Context(), s)
			if diff := cmp.Diff(before, got, cmpopts.EquateEmpty()); diff != "" || err != nil || time.Since(begun) != linksWait {
				t.Errorf("%s: after %s (%v): %s", name, time.Since(begun), err, diff)
			}
		}
	})
}

// network tells of the server's Services as soon as there are more of them.
func (s *server) network(ctx context.Context, req link.NetworkRequest) link.NetworkResponse {
	timeout := time.After(req.Wait.Duration)
	for {
		s.mu.Lock()
		resp := link.NetworkResponse{Store: "s", Version: 1 + uint64(len(s.services)), Whole: true, Services: s.services}
		changed := s.changed
		s.mu.Unlock()
		if req.Store == "" || req.After != resp.Version {
			return resp
		}
		select {
		case <-changed:
			continue
		case <-timeout:
		case <-ctx.Done():
		}
		return link.NetworkResponse{Store: req.Store, Version: req.After}
	}
}

func TestContainersAreToldOfServices(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.mu.Lock()
		c.server.services = []corev1.Service{*linkedService("default", "kubernetes", "10.96.0.1", corev1.ServicePort{Port: 443})}
		c.server.bump()
		c.server.mu.Unlock()
		c.settle()
		var env []string
		c.engine.Behave(func(cfg runtime.ContainerConfig) runtimetest.Behaviour {
			env = cfg.Env
			return runtimetest.Behaviour{}
		})
		c.server.bind(aPod("web"))
		c.settle()
		if !slices.Contains(env, "KUBERNETES_SERVICE_HOST=10.96.0.1") {
			t.Errorf("env = %v", env)
		}
		c.wants("uid-web", "Running app#0:Ready")
	})
}
