package docker

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/dns"
	"github.com/mainstay-cluster/mainstay/node/link"
)

// TestPodsAskTheirNode is the way of a question from a container by its resolv.conf over the bridge to the node, and back.
func TestPodsAskTheirNode(t *testing.T) {
	f := newFixture(t)
	n := link.NewNetwork()
	n.Peers["me"] = link.Peer{Name: "me", PodCIDR: "10.244.3.0/24"}
	n.Services[types.NamespacedName{Namespace: "default", Name: "kubernetes"}] = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1"},
	}
	s := dns.New(dns.Config{Node: "me", Log: f.config.Log})
	check(t, s.Apply(t.Context(), n, link.NetworkChange{Whole: true}))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		check(t, <-ended)
	})
	p := pod("asks", "sh", "-c", "until nslookup kubernetes.default.svc.cluster.local; do sleep 0.1; done")
	if got := f.output(t, p); !strings.Contains(got, "10.244.3.1:53") || !strings.Contains(got, "Address: 10.96.0.1") {
		t.Errorf("got %s", got)
	}
}
