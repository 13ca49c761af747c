package kube

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mainstay-cluster/mainstay/object"
)

// Table renders objs, all of kind k, as kubectl shows them: Kubernetes' columns for its kinds, Mainstay's own for the
// rest. It has one row per object in the same order, all columns (those of `-o wide` have Priority 1), and in each
// row the object as it was given. Ages are counted to now. objs are only read.
func Table(k object.Kind, objs []object.Object) *metav1.Table {
	p, ok := printers[k.GroupKind()]
	if !ok {
		p = nameAndAge
	}
	t := &metav1.Table{ColumnDefinitions: p.columns, Rows: make([]metav1.TableRow, 0, len(objs))}
	for _, obj := range objs {
		t.Rows = append(t.Rows, metav1.TableRow{Cells: p.cells(obj), Conditions: completion(obj), Object: runtime.RawExtension{Object: obj}})
	}
	return t
}

// completion tells clients that a row is of something that has ended.
func completion(obj object.Object) []metav1.TableRowCondition {
	pod, ok := obj.(*corev1.Pod)
	if !ok || !ended(pod) {
		return nil
	}
	return []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: string(pod.Status.Phase)}}
}

// printer is the columns of one kind, and the cells of one of its objects.
type printer struct {
	columns []metav1.TableColumnDefinition
	cells   func(obj object.Object) []any
}

// columns makes a printer of objects of type T.
func columns[T object.Object](cells func(T) []any, titles ...metav1.TableColumnDefinition) printer {
	return printer{titles, func(obj object.Object) []any { return cells(obj.(T)) }}
}

// nameAndAge is for kinds without columns of their own.
var nameAndAge = columns(func(obj object.Object) []any { return []any{obj.GetName(), age(obj.GetCreationTimestamp())} }, nameColumn, ageColumn)

var (
	nameColumn       = name("The object's name, unique among those of its kind and namespace.")
	ageColumn        = text("Age", "Time since the object was made.")
	containersColumn = wide(text("Containers", "The containers of each Pod."))
	imagesColumn     = wide(text("Images", "Their images, in the same order."))
	selectorColumn   = wide(text("Selector", "The labels of the Pods that it counts as its own."))
)

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
