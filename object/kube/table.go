package kube

import (
	"fmt"
	"reflect"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/kubernetes/pkg/printers"
	"k8s.io/kubernetes/pkg/printers/internalversion"

	"github.com/mainstay-cluster/mainstay/object"
)

// Table renders objs, all of kind k, as kubectl shows them: Kubernetes' own columns for its kinds, Mainstay's for the
// rest. It has one row per object in the same order, all columns (those of `-o wide` have Priority 1), and in each
// row the object as it was given. Ages are counted to now. objs are only read.
func Table(k object.Kind, objs []object.Object) (*metav1.Table, error) {
	if p, ok := ownPrinters[k.Kind]; ok && k.Group == object.GroupVersion.Group {
		return p.table(objs), nil
	}
	table, err := kubernetesColumns(k)
	if err != nil {
		return nil, err
	}
	table.Rows = make([]metav1.TableRow, 0, len(objs))
	for _, obj := range objs {
		one, err := generator().GenerateTable(internal(obj), printers.GenerateOptions{Wide: true, NoHeaders: true})
		if err != nil {
			return nil, fmt.Errorf("print %s %s/%s: %w", k.Kind, obj.GetNamespace(), obj.GetName(), err)
		}
		for _, row := range one.Rows {
			row.Object = runtime.RawExtension{Object: obj}
			table.Rows = append(table.Rows, row)
		}
	}
	return table, nil
}

// kubernetesColumns prints an empty list, for its columns.
func kubernetesColumns(k object.Kind) (*metav1.Table, error) {
	list, err := internalList(k.GroupVersionKind)
	if err != nil {
		return nil, fmt.Errorf("columns of %s: %w", k.Kind, err)
	}
	table, err := generator().GenerateTable(list, printers.GenerateOptions{Wide: true})
	if err != nil {
		return nil, fmt.Errorf("columns of %s: %w", k.Kind, err)
	}
	return table, nil
}

var generator = sync.OnceValue(func() *printers.HumanReadableGenerator {
	return printers.NewTableGenerator().With(internalversion.AddHandlers)
})

// printer is the columns of one of Mainstay's own kinds.
type printer struct {
	columns []metav1.TableColumnDefinition
	cells   func(obj object.Object) []any
}

func (p printer) table(objs []object.Object) *metav1.Table {
	t := &metav1.Table{ColumnDefinitions: p.columns, Rows: make([]metav1.TableRow, 0, len(objs))}
	for _, obj := range objs {
		t.Rows = append(t.Rows, metav1.TableRow{Cells: p.cells(obj), Object: runtime.RawExtension{Object: obj}})
	}
	return t
}

var ownPrinters = map[string]printer{
	reflect.TypeFor[object.Revision]().Name(): {
		columns: []metav1.TableColumnDefinition{
			name("The abbreviated commit."),
			text("Phase", "Rejected, Active, Converged, Failed or Superseded."),
			text("Author", "Who wrote the commit."),
			text("Subject", "The first line of the commit's message."),
			number("Created", "Objects the commit brought into the cluster."),
			number("Changed", "Objects the commit changed."),
			number("Deleted", "Objects the commit removed."),
			text("Age", "Time since the cluster took the commit in."),
			wide(number("Problems", "What rejected the commit, counted.")),
			wide(text("Converged after", "Time from activation until everything ran; <none> if it never did.")),
			wide(text("Branch", "The branch whose head it was.")),
			wide(text("Message", "Why it has not converged, or failed.")),
		},
		cells: func(obj object.Object) []any { return revisionCells(obj.(*object.Revision)) },
	},
	reflect.TypeFor[object.Source]().Name(): {
		columns: []metav1.TableColumnDefinition{
			name("The object: resource and name."),
			text("Path", "The file that declares it."),
			number("Line", "Where in the file it begins."),
			text("Commit", "The commit that last changed it."),
			text("Author", "Who wrote that commit."),
			text("Age", "Time since the object was first declared."),
		},
		cells: func(obj object.Object) []any { return sourceCells(obj.(*object.Source)) },
	},
	reflect.TypeFor[object.Cluster]().Name(): {
		columns: []metav1.TableColumnDefinition{
			name("The cluster's id."),
			text("Pod CIDR", "Where Pods' addresses come from."),
			text("Service CIDR", "Where Services' addresses come from."),
			text("Age", "Time since it was first declared."),
		},
		cells: func(obj object.Object) []any {
			c := obj.(*object.Cluster)
			return []any{c.Name, c.Spec.PodCIDR, c.Spec.ServiceCIDR, age(c.CreationTimestamp)}
		},
	},
}

func revisionCells(r *object.Revision) []any {
	s := r.Status
	took := "<none>"
	if s.Phase == object.RevisionConverged && s.ActivatedAt != nil && s.EndedAt != nil {
		took = duration.HumanDuration(s.EndedAt.Sub(s.ActivatedAt.Time))
	}
	problems := max(int64(s.ProblemsAll), int64(len(s.Problems)))
	return []any{r.Name, s.Phase, authorName(r.Spec.Author), shorten(r.Spec.Subject), int64(s.Created), int64(s.Changed), int64(s.Deleted),
		age(r.CreationTimestamp), problems, took, r.Spec.Branch, orNone(printable(s.Message))}
}

func sourceCells(s *object.Source) []any {
	commit := s.Spec.Commit
	if len(commit) > 12 {
		commit = commit[:12]
	}
	return []any{s.Name, printable(s.Spec.Path), int64(s.Spec.Line), commit, authorName(s.Spec.Author), age(s.CreationTimestamp)}
}

func name(what string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: what}
}

func text(title, what string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: title, Type: "string", Description: what}
}

func number(title, what string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: title, Type: "integer", Description: what}
}

func wide(c metav1.TableColumnDefinition) metav1.TableColumnDefinition {
	c.Priority = 1
	return c
}

func age(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}
