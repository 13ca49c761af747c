package node

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// linksWait is how long a container's start waits for the first word on which Services there are. What has run before does not:
// its last environment is at hand.
const linksWait = 5 * time.Second

// apiService is the Service, of the default namespace, that every container is told of.
const apiService = "kubernetes"

// services are those that a Pod's containers are told of. known is false if nothing was heard of any for so long that a
// container should rather start without them.
func (w *worker) services(ctx context.Context, pod *corev1.Pod) (told []*corev1.Service, known bool) {
	ctx, cancel := context.WithTimeout(ctx, linksWait)
	defer cancel()
	select {
	case <-w.routes.Known():
	case <-ctx.Done():
		return nil, false
	}
	own, _ := w.routes.Services(pod.Namespace)
	first, _ := w.routes.Services(metav1.NamespaceDefault)
	return linked(pod, own, first), true
}

// linked chooses among the Services of the Pod's own namespace and those of the default one, and orders them by name: the
// API's, and the Pod's own unless it does not want them.
func linked(pod *corev1.Pod, own, first []*corev1.Service) []*corev1.Service {
	told := map[string]*corev1.Service{}
	for _, svc := range first {
		if svc.Name == apiService {
			told[svc.Name] = svc
		}
	}
	if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
		for _, svc := range own {
			told[svc.Name] = svc
		}
	}
	services := make([]*corev1.Service, 0, len(told))
	for _, name := range slices.Sorted(maps.Keys(told)) {
		services = append(services, told[name])
	}
	return services
}

// variable is one of an environment.
type variable struct{ name, value string }

// linkVariables are the variables that tell of Services, as Kubernetes has them: its own, and those of Docker's links.
func linkVariables(services []*corev1.Service) (all []variable) {
	for _, svc := range services {
		ip := svc.Spec.ClusterIP
		if ip == "" || ip == corev1.ClusterIPNone || len(svc.Spec.Ports) == 0 {
			continue
		}
		prefix := variableName(svc.Name)
		first := svc.Spec.Ports[0]
		all = append(all, variable{prefix + "_SERVICE_HOST", ip}, variable{prefix + "_SERVICE_PORT", portNumber(first)})
		for _, p := range svc.Spec.Ports {
			if p.Name != "" {
				all = append(all, variable{prefix + "_SERVICE_PORT_" + variableName(p.Name), portNumber(p)})
			}
		}
		all = append(all, variable{prefix + "_PORT", linkURL(ip, first)})
		for _, p := range svc.Spec.Ports {
			each := prefix + "_PORT_" + portNumber(p) + "_" + strings.ToUpper(protocolName(p))
			all = append(all, variable{each, linkURL(ip, p)}, variable{each + "_PROTO", protocolName(p)},
				variable{each + "_PORT", portNumber(p)}, variable{each + "_ADDR", ip})
		}
	}
	return all
}

func variableName(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

func portNumber(p corev1.ServicePort) string { return strconv.Itoa(int(p.Port)) }

func protocolName(p corev1.ServicePort) string {
	if p.Protocol == "" {
		return "tcp"
	}
	return strings.ToLower(string(p.Protocol))
}

func linkURL(ip string, p corev1.ServicePort) string {
	return protocolName(p) + "://" + net.JoinHostPort(ip, portNumber(p))
}
