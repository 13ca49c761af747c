package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

// wholeObjects makes the rows of a Table carry the objects themselves.
var wholeObjects = url.Values{"includeObject": {string(metav1.IncludeObject)}}

// runningPods are those that take a place on their node.
var runningPods = url.Values{"fieldSelector": {"status.phase!=Succeeded,status.phase!=Failed"}, "includeObject": {string(metav1.IncludeNone)}}

// isNode says whether k is the kind whose table has columns of our own.
func isNode(k object.Kind) bool {
	return k.GroupVersionKind == object.KindFor[*corev1.Node]().GroupVersionKind
}

// describeNodes adds to a table of whole Nodes what kubectl has no columns for: how many Pods each has of those it takes, and,
// in wide, its Pod range and its taints.
func describeNodes(ctx context.Context, c *client, table *metav1.Table) error {
	pods, err := podsByNode(ctx, c)
	if err != nil {
		return err
	}
	at := columnNamed(table, "Age")
	table.ColumnDefinitions = slices.Insert(table.ColumnDefinitions, at, metav1.TableColumnDefinition{Name: "Pods"})
	table.ColumnDefinitions = append(table.ColumnDefinitions,
		metav1.TableColumnDefinition{Name: "Pod-Range", Priority: 1}, metav1.TableColumnDefinition{Name: "Taints", Priority: 1})
	for i := range table.Rows {
		row := &table.Rows[i]
		var node corev1.Node
		if err := json.Unmarshal(row.Object.Raw, &node); err != nil {
			return fmt.Errorf("read a table row's object: %w", err)
		}
		row.Cells = slices.Insert(row.Cells, at, any(occupied(&node, pods[node.Name])))
		row.Cells = append(row.Cells, cmp.Or(node.Spec.PodCIDR, "<none>"), cmp.Or(taintText(node.Spec.Taints), "<none>"))
	}
	return nil
}

// podsByNode counts the Pods that take a place.
func podsByNode(ctx context.Context, c *client) (map[string]int, error) {
	var table metav1.Table
	all := request{path: pathOf(object.KindFor[*corev1.Pod](), "", ""), query: runningPods, accept: acceptTable}
	if err := c.get(ctx, all, &table); err != nil {
		return nil, err
	}
	count, at := map[string]int{}, columnNamed(&table, "Node")
	for _, row := range table.Rows {
		if at < len(row.Cells) {
			count[cellText(row.Cells[at])]++
		}
	}
	return count, nil
}

// columnNamed is a column's place, or the place after the last.
func columnNamed(table *metav1.Table, name string) int {
	at := slices.IndexFunc(table.ColumnDefinitions, func(d metav1.TableColumnDefinition) bool { return d.Name == name })
	if at < 0 {
		return len(table.ColumnDefinitions)
	}
	return at
}

// occupied is "7/110"; a machine that has not joined takes none yet.
func occupied(node *corev1.Node, pods int) string {
	if places, ok := node.Status.Allocatable[corev1.ResourcePods]; ok {
		return fmt.Sprintf("%d/%s", pods, places.String())
	}
	return fmt.Sprint(pods)
}

func taintText(taints []corev1.Taint) string {
	var list []string
	for i := range taints {
		list = append(list, taints[i].ToString())
	}
	return strings.Join(list, ",")
}
