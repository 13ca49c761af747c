package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metainternalscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// request is one read of objects.
type request struct {
	kind object.Kind
	key  state.Key // Name is "" for a collection
	form form
	r    *http.Request
}

func isTrue(s string) bool {
	b, err := strconv.ParseBool(s)
	return err == nil && b
}

// collection lists or watches.
func (a *API) collection(w http.ResponseWriter, q request) error {
	opts, err := listOptions(q.r)
	if err != nil {
		return err
	}
	f, err := newFilter(q.kind, q.key.Namespace, opts.LabelSelector, opts.FieldSelector)
	if err != nil {
		return err
	}
	enc := encoder{kind: q.kind, form: q.form, include: metav1.IncludeObjectPolicy(q.r.URL.Query().Get("includeObject"))}
	if opts.Watch {
		return a.watch(q.r.Context(), w, watcher{api: a, encoder: enc, filter: f, opts: opts})
	}
	return a.list(w, q, listing{enc, f, opts})
}

func listOptions(r *http.Request) (*metainternal.ListOptions, error) {
	opts := &metainternal.ListOptions{}
	if err := metainternalscheme.ParameterCodec.DecodeParameters(r.URL.Query(), metav1.SchemeGroupVersion, opts); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if errs := metavalidation.ValidateListOptions(opts, true); len(errs) > 0 {
		return nil, apierrors.NewInvalid(metav1.Kind("ListOptions"), "", errs)
	}
	return opts, nil
}

// get answers with one object.
func (a *API) get(w http.ResponseWriter, q request) error {
	view, err := a.viewAt(q.r.Context(), q.r.URL.Query().Get("resourceVersion"))
	if err != nil {
		return err
	}
	obj, ok := state.GetKind(view, q.kind, q.key)
	if !ok {
		return apierrors.NewNotFound(q.kind.GroupResource(), q.key.Name)
	}
	enc := encoder{kind: q.kind, form: q.form, include: metav1.IncludeObjectPolicy(q.r.URL.Query().Get("includeObject"))}
	body, err := enc.one(visible(q.kind, obj))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, json.RawMessage(body))
	return nil
}

// listing is one answer to a list request.
type listing struct {
	encoder
	filter
	opts *metainternal.ListOptions
}

func (a *API) list(w http.ResponseWriter, q request, l listing) error {
	view, after, err := a.page(q, l.opts)
	if err != nil {
		return err
	}
	objs, left := l.choose(view, after)
	meta := metav1.ListMeta{ResourceVersion: formatVersion(view.Version)}
	if left > 0 {
		last := objs[len(objs)-1]
		meta.Continue = token{Version: view.Version, Namespace: last.GetNamespace(), Name: last.GetName()}.String()
		a.pages.keep(view)
		if l.everything() {
			meta.RemainingItemCount = &left
		}
	}
	if l.form == asTable {
		writeJSON(w, http.StatusOK, l.table(objs, meta))
		return nil
	}
	return l.write(w, objs, meta)
}

// choose lists what the filter lets through after a key, at most limit of it; left is how much more there is, or 1 if that
// would take looking.
func (l listing) choose(view *state.Snapshot, after *state.Key) (objs []object.Object, left int64) {
	for obj := range state.ListKind(view, l.kind, l.namespace) {
		if after != nil && !isAfter(state.KeyOf(obj), *after) {
			continue
		}
		if obj = visible(l.kind, obj); !l.matches(obj) {
			continue
		}
		if l.opts.Limit > 0 && int64(len(objs)) == l.opts.Limit {
			if left++; !l.everything() {
				return objs, left
			}
			continue
		}
		objs = append(objs, obj)
	}
	return objs, left
}

func isAfter(k, other state.Key) bool {
	if k.Namespace != other.Namespace {
		return k.Namespace > other.Namespace
	}
	return k.Name > other.Name
}

// write streams the list: one encoded object at a time is held, however many there are.
func (l listing) write(w http.ResponseWriter, objs []object.Object, meta metav1.ListMeta) error {
	gv, kind := l.kind.GroupVersion().String(), l.kind.Kind+"List"
	if l.form == asMetadata {
		gv, kind = metaGroup+"/v1", "PartialObjectMetadataList"
	}
	header, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("encode list: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache, private")
	if _, err := fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, kind, gv, header); err != nil {
		return err
	}
	for i, obj := range objs {
		body, err := l.one(obj)
		if err != nil {
			return err
		}
		if i > 0 {
			body = append([]byte{',', '\n'}, body...)
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
	}
	_, err = w.Write([]byte("]}\n"))
	return err
}

func formatVersion(v state.Version) string { return strconv.FormatUint(uint64(v), 10) }
