package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"

	"github.com/mainstay-cluster/mainstay/object"
)

// relation is objects that belong to another.
type relation struct {
	title string
	kind  object.Kind
	query url.Values
	owned bool // only those that the object controls
}

// relationsOf says what else is worth seeing with an object.
func relationsOf(obj object.Object) []relation {
	switch obj := obj.(type) {
	case *corev1.Node:
		return []relation{{title: "Pods", kind: object.KindFor[*corev1.Pod](), query: runningOn(obj.Name)}}
	case *appsv1.Deployment:
		return []relation{{title: "ReplicaSets", kind: object.KindFor[*appsv1.ReplicaSet](), query: selected(obj.Spec.Selector), owned: true}}
	case *appsv1.ReplicaSet:
		return []relation{{title: "Pods", kind: object.KindFor[*corev1.Pod](), query: selected(obj.Spec.Selector), owned: true}}
	case *corev1.Service:
		return []relation{{title: "EndpointSlices", kind: object.KindFor[*discoveryv1.EndpointSlice](),
			query: url.Values{"labelSelector": {discoveryv1.LabelServiceName + "=" + obj.Name}}}}
	}
	return nil
}

func selected(by *metav1.LabelSelector) url.Values {
	selector, err := metav1.LabelSelectorAsSelector(by)
	if err != nil {
		return nil // then whoever owns them says so
	}
	return url.Values{"labelSelector": {selector.String()}}
}

// runningOn selects the Pods that hold a node's resources.
func runningOn(node string) url.Values {
	return url.Values{"fieldSelector": {"spec.nodeName=" + node + ",status.phase!=Succeeded,status.phase!=Failed"}}
}

// allocated says how much of a node its Pods have asked for.
func (d *description) allocated(ctx context.Context) error {
	node, ok := d.obj.(*corev1.Node)
	if !ok {
		return nil
	}
	pods, _, err := list[*corev1.Pod](ctx, d.client, "", runningOn(node.Name))
	if err != nil {
		return err
	}
	used := corev1.ResourceList{}
	for _, pod := range pods {
		for name, quantity := range resource.PodRequests(pod, resource.PodResourcesOptions{}) {
			sum := used[name]
			sum.Add(quantity)
			used[name] = sum
		}
	}
	parts := []string{fmt.Sprintf("%d of %s Pods", len(pods), node.Status.Allocatable.Pods())}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		sum, all := used[name], node.Status.Allocatable[name]
		if !all.IsZero() {
			parts = append(parts, fmt.Sprintf("%s %s of %s (%.0f%%)", name, amount(sum), amount(all), 100*sum.AsApproximateFloat64()/all.AsApproximateFloat64()))
		}
	}
	d.row("Requested", "%s", strings.Join(parts, ", "))
	return nil
}

// amount is q as people read it: what is not a round number, as the memory of a machine, to a tenth of the unit that suits it.
func amount(q apiresource.Quantity) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 40, "Ti"}, {1 << 30, "Gi"}, {1 << 20, "Mi"}} {
		if v := q.Value(); v >= unit.bytes && q.Format == apiresource.BinarySI {
			return decimal(float64(v)/float64(unit.bytes)) + unit.name
		}
	}
	return q.String()
}
