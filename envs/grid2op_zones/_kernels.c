/* The zones' side of a step: from actions to what Grid2Op is told, what zones see, and the reward. Grids have tens of units,
 * for which a numpy call costs far more than its arithmetic, and a step has hundreds of them. What is computed is said in
 * action.py, safety/devices.py, observation.py and reward.py, which call this.
 *
 * Arrays are contiguous: d double, f float, i 64-bit and n 32-bit integers, b boolean; upper case is written to.
 * Their kinds are checked, ids and sizes are not: they are the callers' own, made of the grid.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdlib.h>

#define MOST 32 /* arrays of one call */

typedef struct {
    Py_buffer views[MOST];
    int count;
} Arrays;

static void release(Arrays *arrays) {
    while (arrays->count) PyBuffer_Release(&arrays->views[--arrays->count]);
}

/* Pointers to the arrays of `args`, one for each letter of `kinds`; upper case is written to. 0 or -1. */
static int open_arrays(Arrays *arrays, PyObject *const *args, const char *kinds, void **data, Py_ssize_t *sizes) {
    arrays->count = 0;
    for (int k = 0; kinds[k]; k++) {
        int writable = kinds[k] < 'a';
        char kind = writable ? (char)(kinds[k] + 'a' - 'A') : kinds[k];
        Py_buffer *view = &arrays->views[k];
        int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(args[k], view, flags) < 0) {
            release(arrays);
            return -1;
        }
        arrays->count++;
        char found = *view->format;
        if (found == 'l' || found == 'q' || found == 'i') found = view->itemsize == 8 ? 'i' : 'n';
        if (found == '?') found = 'b';
        if (found != kind) {
            PyErr_Format(PyExc_TypeError, "array %d: expected kind '%c', found '%s'", k, kind, view->format);
            release(arrays);
            return -1;
        }
        data[k] = view->buf;
        sizes[k] = view->len / view->itemsize;
    }
    return 0;
}

static int expects(Py_ssize_t given, Py_ssize_t wanted) {
    if (given != wanted) PyErr_Format(PyExc_TypeError, "expected %zd arguments, found %zd", wanted, given);
    return given == wanted;
}

static double clip(double x, double low, double high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

/* Projection ------------------------------------------------------------------------------------------------------ */

static int by_size(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static double total_at(Py_ssize_t n, double m, const double *x, const double *low, const double *high, const double *weight) {
    double total = 0;
    for (Py_ssize_t j = 0; j < n; j++) total += clip(x[j] + m / weight[j], low[j], high[j]);
    return total;
}

/* In place: the minimiser is clip(x + m / weight, low, high); its sum is linear in m between the sorted knots. */
static int project_row(Py_ssize_t n, double *x, const double *low, const double *high, const double *weight, double total) {
    if (!n) return 0;
    double *knots = PyMem_Malloc(2 * n * sizeof(double));
    if (!knots) return -1;
    for (Py_ssize_t j = 0; j < n; j++) {
        knots[j] = (low[j] - x[j]) * weight[j];
        knots[n + j] = (high[j] - x[j]) * weight[j];
    }
    qsort(knots, 2 * n, sizeof(double), by_size);
    Py_ssize_t first = 0, last = 2 * n - 1; /* the total lies between these two knots' */
    double below = total_at(n, knots[first], x, low, high, weight), above = total_at(n, knots[last], x, low, high, weight), m;
    if (total <= below) m = knots[first];
    else if (total >= above) m = knots[last];
    else {
        while (last - first > 1) {
            Py_ssize_t middle = (first + last) / 2;
            double there = total_at(n, knots[middle], x, low, high, weight);
            if (there <= total) first = middle, below = there;
            else last = middle, above = there;
        }
        m = above > below ? knots[first] + (knots[last] - knots[first]) * (total - below) / (above - below) : knots[first];
    }
    for (Py_ssize_t j = 0; j < n; j++) x[j] = clip(x[j] + m / weight[j], low[j], high[j]);
    PyMem_Free(knots);
    return 0;
}

/* The new dispatch of all units, see redispatch.py; whether the total lies within the units' reach. */
static PyObject *redispatch(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[10];
    Py_ssize_t sizes[10];
    if (!expects(count, 13) || open_arrays(&arrays, args, "Ffffffffbb", a, sizes) < 0) return NULL;
    double total = PyFloat_AsDouble(args[10]), epsilon = PyFloat_AsDouble(args[11]);
    int anyway = PyObject_IsTrue(args[12]);
    float *out = a[0];
    const float *scheduled = a[1], *before = a[2], *actual = a[3], *target = a[4], *pmin = a[5], *pmax = a[6];
    const float *ramps = a[7]; /* up, then down */
    const char *part = a[8], *modified = a[9];
    Py_ssize_t n = sizes[0], members = 0, free_members = 0;
    int asked_any = 0;
    for (Py_ssize_t j = 0; j < n; j++) asked_any |= part[j] && modified[j];
    double *work = PyMem_Malloc((8 * n + 1) * sizeof(double)), lowest = 0, highest = 0, met = 0;
    if (!work) {
        release(&arrays);
        return PyErr_NoMemory();
    }
    double *x = work, *low = x + n, *high = low + n, *weight = high + n; /* of the units that were asked for */
    double *y = weight + n, *y_low = y + n, *y_high = y_low + n, *y_weight = y_high + n; /* of the others */
    for (Py_ssize_t j = 0; j < n; j++) {
        out[j] = actual[j];
        if (!part[j]) continue;
        double up = ramps[j], down = ramps[n + j], increase = (double)scheduled[j] + actual[j] - before[j];
        double least = pmin[j] - (double)before[j], most = pmax[j] - (double)before[j];
        least = (least > -down ? least : -down) - increase;
        most = (most < up ? most : up) - increase;
        lowest += least;
        highest += most;
        most = (most > least ? most : least) + epsilon / 2;
        least -= epsilon / 2;
        if (modified[j] || !asked_any) {
            x[members] = (double)target[j] - actual[j];
            low[members] = least, high[members] = most;
            met += clip(x[members], least, most);
            weight[members++] = 1 / (up + down + epsilon);
        } else {
            y[free_members] = 0, y_low[free_members] = least, y_high[free_members] = most;
            y_weight[free_members++] = 1 / (up + down + epsilon);
        }
    }
    int reached = anyway || (lowest <= total && total <= highest), failed = 0;
    if (reached) {
        /* what is not asked for costs nothing, and so takes up the balance as far as its bounds go, nearest to 0 */
        failed = project_row(free_members, y, y_low, y_high, y_weight, total - met) < 0;
        for (Py_ssize_t j = 0; j < free_members; j++) total -= y[j];
        failed |= project_row(members, x, low, high, weight, total) < 0;
        members = free_members = 0;
        for (Py_ssize_t j = 0; j < n; j++)
            if (part[j]) out[j] = (float)(out[j] + (modified[j] || !asked_any ? x[members++] : y[free_members++]));
    }
    PyMem_Free(work);
    release(&arrays);
    if (failed) return PyErr_NoMemory();
    return PyBool_FromLong(reached);
}

static PyObject *project(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[4];
    Py_ssize_t sizes[4];
    if (!expects(count, 5)) return NULL;
    double total = PyFloat_AsDouble(args[4]);
    if (PyErr_Occurred() || open_arrays(&arrays, args, "Dddd", a, sizes) < 0) return NULL;
    int failed = project_row(sizes[0], a[0], a[1], a[2], a[3], total);
    release(&arrays);
    if (failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* Actions --------------------------------------------------------------------------------------------------------- */

static PyObject *decode(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[16];
    Py_ssize_t sizes[16];
    if (!expects(count, 17) || open_arrays(&arrays, args, "diiiiiffdddddDDD", a, sizes) < 0) return NULL;
    double share = PyFloat_AsDouble(args[16]);
    const double *vector = a[0];
    const long long *red_at = a[1], *cur_at = a[2], *sto_at = a[3], *red = a[4], *cur = a[5];
    const float *actual = a[6], *available = a[7];
    const double *up = a[8], *down = a[9], *inverse_pmax = a[10], *absorb = a[11], *produce = a[12];
    double *moves = a[13], *cap = a[14], *power = a[15];
    for (Py_ssize_t j = 0; j < sizes[1]; j++) {
        double x = vector[red_at[j]];
        moves[j] = x * (x > 0 ? up[j] : down[j]) - share * actual[red[j]];
    }
    for (Py_ssize_t j = 0; j < sizes[2]; j++) {
        double x = vector[cur_at[j]], mw = available[cur[j]];
        double ratio = (1 + x) * (mw > 0 ? mw : 0) * inverse_pmax[j];
        cap[j] = x < 0 && ratio < 1 ? ratio : 1;
    }
    for (Py_ssize_t j = 0; j < sizes[3]; j++) {
        double x = vector[sto_at[j]];
        power[j] = x * (x > 0 ? absorb[j] : produce[j]);
    }
    release(&arrays);
    Py_RETURN_NONE;
}

/* Makes the moves of the excess' sign in proportion smaller, until their sum is smaller by the excess or zero. */
static void shrink(double *move, Py_ssize_t n, const long long *group, long long g, double factor, double sign) {
    for (Py_ssize_t j = 0; j < n; j++)
        if (group[j] == g && sign * move[j] > 0) move[j] *= factor;
}

static PyObject *allow(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[23];
    Py_ssize_t sizes[23];
    if (!expects(count, 26) || open_arrays(&arrays, args, "DDDfffffiiidddddddddiii", a, sizes) < 0) return NULL;
    double step = PyFloat_AsDouble(args[23]), tolerance = PyFloat_AsDouble(args[24]);
    long long groups = PyLong_AsLongLong(args[25]);
    double *moves = a[0], *cap = a[1], *power = a[2];
    const float *gen_p = a[3], *delta = a[4], *actual = a[5], *available = a[6], *power_now = a[7];
    const long long *red = a[8], *cur = a[9], *sto = a[10];
    const double *ceiling = a[11], *floor_ = a[12], *up = a[13], *down = a[14], *weight = a[15];
    const double *inverse_pmax = a[16], *pmax = a[17], *least = a[18], *most = a[19];
    const long long *red_group = a[20], *cur_group = a[21], *sto_group = a[22];
    Py_ssize_t n = sizes[0], n_cur = sizes[1], n_sto = sizes[2];
    double *work = PyMem_Malloc((2 * n_cur + n_sto + 6 * n + 1) * sizeof(double));
    if (!work) {
        release(&arrays);
        return PyErr_NoMemory();
    }
    double *now = work, *change = now + n_cur, *charge = change + n_cur, *low = charge + n_sto, *high = low + n;
    double *row = high + n, *row_low = row + n, *row_high = row_low + n, *row_weight = row_high + n;
    for (Py_ssize_t j = 0; j < n; j++) {
        double scheduled = gen_p[red[j]] - (double)delta[red[j]], dispatch = actual[red[j]];
        double room_up = ceiling[j] - scheduled, room_down = scheduled - floor_[j];
        /* where a unit's own schedule has used the headroom up, dispatch is taken back */
        double back_up = dispatch > 0 ? -dispatch : 0, back_down = dispatch < 0 ? dispatch : 0;
        room_up = room_up > back_up ? room_up : back_up;
        room_down = room_down > back_down ? room_down : back_down;
        low[j] = clip(-room_down, -down[j], up[j]);
        high[j] = clip(room_up, -down[j], up[j]);
        moves[j] = clip(moves[j], low[j], high[j]);
    }
    for (Py_ssize_t j = 0; j < n_cur; j++) {
        double before = available[cur[j]], output = gen_p[cur[j]] - (double)delta[cur[j]];
        now[j] = before > output ? before - output : 0;
        double share = output * inverse_pmax[j];
        cap[j] = clip(clip(cap[j], share - step, now[j] > tolerance ? share + step : 1), 0, 1);
        double curtailed = before - cap[j] * pmax[j];
        change[j] = (curtailed > 0 ? curtailed : 0) - now[j];
    }
    for (Py_ssize_t j = 0; j < n_sto; j++) {
        power[j] = clip(power[j], least[sto[j]], most[sto[j]]);
        charge[j] = power[j] - power_now[sto[j]];
    }
    int failed = 0;
    for (long long g = 0; g < groups && !failed; g++) {
        double total = 0, lowest = 0, highest = 0;
        for (Py_ssize_t j = 0; j < n_cur; j++)
            if (cur_group[j] == g) total += now[j] + change[j];
        for (Py_ssize_t j = 0; j < n_sto; j++)
            if (sto_group[j] == g) total += power[j];
        Py_ssize_t members = 0;
        for (Py_ssize_t j = 0; j < n; j++)
            if (red_group[j] == g) {
                total -= actual[red[j]];
                lowest += low[j];
                highest += high[j];
                row[members] = moves[j], row_low[members] = low[j], row_high[members] = high[j];
                row_weight[members++] = weight[j];
            }
        double reach = clip(total, lowest, highest), excess = total - reach, sign = excess > 0 ? 1 : -1, amount = 0;
        if (excess != 0) {
            for (Py_ssize_t j = 0; j < n_cur; j++)
                if (cur_group[j] == g && sign * change[j] > 0) amount += change[j];
            for (Py_ssize_t j = 0; j < n_sto; j++)
                if (sto_group[j] == g && sign * charge[j] > 0) amount += charge[j];
        }
        if (amount != 0) {
            double factor = excess / amount < 1 ? 1 - excess / amount : 0;
            for (Py_ssize_t j = 0; j < n_cur; j++)
                if (cur_group[j] == g && sign * change[j] > 0)
                    cap[j] = clip((available[cur[j]] - now[j] - factor * change[j]) * inverse_pmax[j], 0, 1);
            shrink(charge, n_sto, sto_group, g, factor, sign);
            for (Py_ssize_t j = 0; j < n_sto; j++)
                if (sto_group[j] == g) power[j] = clip(power_now[sto[j]] + charge[j], least[sto[j]], most[sto[j]]);
        }
        failed = project_row(members, row, row_low, row_high, row_weight, reach);
        members = 0;
        for (Py_ssize_t j = 0; j < n; j++)
            if (red_group[j] == g) moves[j] = row[members++];
    }
    PyMem_Free(work);
    release(&arrays);
    if (failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *order(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[17];
    Py_ssize_t sizes[17];
    if (!expects(count, 18) || open_arrays(&arrays, args, "dddiiifffdddddFFF", a, sizes) < 0) return NULL;
    double tolerance = PyFloat_AsDouble(args[17]);
    const double *moves = a[0], *cap = a[1], *power = a[2];
    const long long *red = a[3], *cur = a[4], *sto = a[5];
    const float *targets = a[6], *actual = a[7], *limit = a[8];
    const double *most = a[9], *up = a[10], *down = a[11], *absorb = a[12], *produce = a[13];
    float *redispatch = a[14], *curtail = a[15], *storage = a[16];
    int caps = 0, charges = 0;
    for (Py_ssize_t j = 0; j < sizes[0]; j++) {
        double target = targets[red[j]], dispatch = actual[red[j]];
        double wanted = clip(dispatch + moves[j], -most[j], most[j]);
        int fresh = target == 0;
        double sent = wanted - (fresh ? dispatch : target);
        /* a fresh unit that Grid2Op has moved is claimed by a tiny increment, so that it is held where it is */
        if (fabs(sent) < tolerance) sent = fresh && fabs(dispatch) > tolerance ? tolerance : 0;
        /* a target that comes back to zero stops short of it, or the unit would look fresh again */
        if (!fresh && fabs(target + sent) < tolerance) sent += 2 * tolerance;
        redispatch[red[j]] = (float)clip(sent, -down[j], up[j]);
    }
    for (Py_ssize_t j = 0; j < sizes[1]; j++) {
        double present = limit[cur[j]] < 1 ? limit[cur[j]] : 1;
        caps |= fabs(cap[j] - present) > 1e-6;
        curtail[cur[j]] = (float)cap[j];
    }
    for (Py_ssize_t j = 0; j < sizes[2]; j++) {
        charges |= power[j] != 0;
        storage[sto[j]] = (float)clip(power[j], -produce[j], absorb[j]);
    }
    release(&arrays);
    return PyLong_FromLong(caps + 2 * charges);
}

/* A zone's units behind its projection ---------------------------------------------------------------------------- */

/* Lowest and highest change of each unit's injection, and what units do now: dispatch; MW that renewables could inject,
 * that they inject, and that are curtailed; the storages' power. Returns what the changes of a balanced zone should sum to,
 * and the sums of the lowest and the highest. */
static PyObject *zone_room(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[25];
    Py_ssize_t sizes[25];
    if (!expects(count, 26) || open_arrays(&arrays, args, "DDDffffffnniiiddddddddddd", a, sizes) < 0) return NULL;
    double tolerance = PyFloat_AsDouble(args[25]), wanted = 0, lowest = 0, highest = 0;
    double *low = a[0], *high = a[1], *dispatch = a[2];
    const float *gen_p = a[3], *delta = a[4], *before = a[5], *actual = a[6], *charge = a[7], *power = a[8];
    const int *gen_bus = a[9], *storage_bus = a[10];
    const long long *red = a[11], *cur = a[12], *sto = a[13];
    const double *ceiling = a[14], *floor_ = a[15], *up = a[16], *down = a[17], *step = a[18];
    const double *absorb = a[19], *produce = a[20], *e_max = a[21], *e_min = a[22];
    const double *charge_rate = a[23], *discharge_rate = a[24];
    Py_ssize_t n = sizes[0], n_red = sizes[11], n_cur = sizes[12];
    double *available = dispatch + n_red, *present = available + n_cur, *curtailed = present + n_cur;
    double *power_now = curtailed + n_cur;
    for (Py_ssize_t j = 0; j < n_red; j++) {
        double scheduled = gen_p[red[j]] - (double)delta[red[j]];
        double room_up = ceiling[j] - scheduled, room_down = scheduled - floor_[j];
        dispatch[j] = actual[red[j]];
        /* where a unit's own schedule has used the headroom up, dispatch is taken back */
        double back_up = dispatch[j] > 0 ? -dispatch[j] : 0, back_down = dispatch[j] < 0 ? dispatch[j] : 0;
        room_up = room_up > back_up ? room_up : back_up;
        room_down = room_down > back_down ? room_down : back_down;
        int on = gen_bus[red[j]] >= 1;
        low[j] = on ? clip(-room_down, -down[j], up[j]) : 0;
        high[j] = on ? clip(room_up, -down[j], up[j]) : 0;
        wanted -= dispatch[j];
    }
    for (Py_ssize_t j = 0, k = n_red; j < n_cur; j++, k++) {
        available[j] = before[cur[j]] > 0 ? before[cur[j]] : 0;
        double output = gen_p[cur[j]] - (double)delta[cur[j]];
        curtailed[j] = available[j] - output > tolerance ? available[j] - output : 0;
        present[j] = available[j] - curtailed[j];
        low[k] = present[j] < step[j] ? -present[j] : -step[j];
        high[k] = curtailed[j] < step[j] ? curtailed[j] : step[j];
        wanted += curtailed[j];
    }
    for (Py_ssize_t j = 0, k = n_red + n_cur; j < sizes[13]; j++, k++) {
        double stored = charge[sto[j]];
        int on = storage_bus[sto[j]] >= 1; /* power on a disconnected storage is illegal */
        double most = on ? clip((e_max[j] - stored) * charge_rate[j], 0, absorb[j]) : 0;
        double least = on ? -clip((stored - e_min[j]) * discharge_rate[j], 0, produce[j]) : 0;
        power_now[j] = power[sto[j]];
        low[k] = power_now[j] - most;
        high[k] = power_now[j] - least;
        wanted += power_now[j];
    }
    for (Py_ssize_t k = 0; k < n; k++) lowest += low[k], highest += high[k];
    release(&arrays);
    return Py_BuildValue("ddd", wanted, lowest, highest);
}

/* The changes of injections that an action asks for, before any limit. */
static PyObject *zone_propose(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[9];
    Py_ssize_t sizes[9];
    if (!expects(count, 10) || open_arrays(&arrays, args, "Ddddddddd", a, sizes) < 0) return NULL;
    double share = PyFloat_AsDouble(args[9]), *change = a[0];
    const double *action = a[1], *dispatch = a[2], *up = a[3], *down = a[4], *pmax = a[5], *inverse_pmax = a[6];
    const double *absorb = a[7], *produce = a[8];
    const double *available = dispatch + sizes[3], *present = available + sizes[5], *power_now = present + 2 * sizes[5];
    for (Py_ssize_t j = 0; j < sizes[3]; j++) {
        double x = *action++;
        *change++ = x * (x > 0 ? up[j] : down[j]) - share * dispatch[j];
    }
    for (Py_ssize_t j = 0; j < sizes[5]; j++) {
        double x = *action++, ratio = (1 + x) * available[j] * inverse_pmax[j];
        double injected = (x < 0 && ratio < 1 ? ratio : 1) * pmax[j];
        *change++ = (injected < available[j] ? injected : available[j]) - present[j];
    }
    for (Py_ssize_t j = 0; j < sizes[7]; j++) {
        double x = *action++;
        *change++ = power_now[j] - x * (x > 0 ? absorb[j] : produce[j]);
    }
    release(&arrays);
    Py_RETURN_NONE;
}

/* Set-points of changes within the room, and the action that proposes them: what was asked for, if anything was, where that
 * is done. Returns the squared distance of the changes from those proposed. */
static PyObject *zone_settle(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[16];
    Py_ssize_t sizes[16];
    if (!expects(count, 19) || open_arrays(&arrays, args, "FDDDdddddddddddd", a, sizes) < 0) return NULL;
    double same = PyFloat_AsDouble(args[16]), share = PyFloat_AsDouble(args[17]), idle = PyFloat_AsDouble(args[18]);
    float *action = a[0];
    double *moves = a[1], *cap = a[2], *power = a[3], distance = 0;
    const double *change = a[4], *proposed = a[5], *asked = a[6], *high = a[7], *dispatch = a[8], *scale = a[9];
    const double *up = a[10], *down = a[11], *inverse_pmax = a[12], *step = a[13], *absorb = a[14], *produce = a[15];
    Py_ssize_t n = sizes[4], n_red = sizes[1], n_cur = sizes[2];
    const double *available = dispatch + n_red, *present = available + n_cur, *curtailed = present + n_cur;
    const double *power_now = curtailed + n_cur;
    for (Py_ssize_t k = 0; k < sizes[0]; k++) {
        double x = 0, off = 0;
        if (k < n_red) {
            double move = change[k] + share * dispatch[k], most = move > 0 ? up[k] : down[k];
            moves[k] = change[k];
            x = move / (most > 1e-9 ? most : 1e-9);
        } else if (k < n_red + n_cur) {
            Py_ssize_t j = k - n_red;
            double injected = present[j] + change[k];
            /* a program's optimum comes as near to a bound as its solver's tolerance */
            int freed = change[k] >= high[k] - same * step[j] && curtailed[j] <= step[j];
            /* an eased cap lies a step above the present output, so that wind that rises is let in as gradually */
            double to = !freed ? injected * inverse_pmax[j] : curtailed[j] > 0 ? (present[j] + step[j]) * inverse_pmax[j] : 1;
            cap[j] = clip(to, 0, 1);
            x = freed ? idle : injected / (available[j] > 1e-6 ? available[j] : 1e-6) - 1;
        } else if (k < n) {
            Py_ssize_t j = k - n_red - n_cur;
            double most;
            power[j] = power_now[j] - change[k];
            most = power[j] > 0 ? absorb[j] : produce[j];
            x = power[j] / (most > 1e-9 ? most : 1e-9);
        }
        if (k < n) off = (change[k] - proposed[k]) / scale[k];
        distance += off * off;
        action[k] = (float)(sizes[6] && fabs(off) <= same ? asked[k] : clip(x, -1, 1));
    }
    release(&arrays);
    return PyFloat_FromDouble(distance);
}

/* Protections ----------------------------------------------------------------------------------------------------- */

/* Whether a line trips, at once or after the steps that it has been overloaded; if none, counts those steps. */
static PyObject *protect(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[7];
    Py_ssize_t sizes[7];
    if (!expects(count, 9) || open_arrays(&arrays, args, "ffbfnNN", a, sizes) < 0) return NULL;
    float soft = (float)PyFloat_AsDouble(args[7]);
    int trips = 0, spared = PyObject_IsTrue(args[8]);
    const float *flow = a[0], *limit = a[1], *hard = a[3];
    const char *closed = a[2];
    const int *most = a[4];
    int *overflow = a[5], *engaged = a[6];
    Py_ssize_t n = sizes[0];
    for (Py_ssize_t j = 0; j < n && !spared; j++)
        trips |= closed[j] && (flow[j] > hard[j] * limit[j] || engaged[j] + (flow[j] > soft * limit[j]) > most[j]);
    for (Py_ssize_t j = 0; j < n && !trips; j++) {
        overflow[j] = flow[j] > limit[j] ? overflow[j] + 1 : 0;
        engaged[j] = flow[j] > limit[j] * soft ? engaged[j] + 1 : 0;
    }
    release(&arrays);
    return PyBool_FromLong(trips);
}

/* Observation and reward ------------------------------------------------------------------------------------------ */

static PyObject *observe(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[32];
    Py_ssize_t sizes[32];
    if (!expects(count, 38) || open_arrays(&arrays, args, "FiDffdbnniniifffffdddddfdfdfdddb", a, sizes) < 0) return NULL;
    double per_overflow = PyFloat_AsDouble(args[32]), excess_from = PyFloat_AsDouble(args[33]);
    double cooling = PyFloat_AsDouble(args[34]), planned = PyFloat_AsDouble(args[35]);
    double notice = PyFloat_AsDouble(args[36]), bound = PyFloat_AsDouble(args[37]);
    float *out = a[0];
    const long long *picks = a[1], *maintainable = a[9], *red = a[11], *cur = a[12];
    double *to = a[2];
    const float *rho = a[3], *p_or = a[4];
    const double *per_limit = a[5];
    const char *closed = a[6];
    const int *overflow = a[7], *cooldown = a[8], *ahead = a[10];
    const float *gen_p = a[13], *actual = a[14], *target = a[15], *available = a[16], *limit = a[17];
    const double *pmax = a[18], *pmin = a[19], *per_pmax = a[20], *per_up = a[21], *per_down = a[22];
    const float *load = a[23], *charge = a[25], *power = a[27];
    const double *per_load = a[24], *per_energy = a[26], *per_power = a[28], *calendar = a[29];
    const double *factors = a[30]; /* (lines, maintainable lines), or none */
    const char *threatened = a[31]; /* (maintainable lines), or none */
    Py_ssize_t n = sizes[3], n_red = sizes[11];
    for (Py_ssize_t j = 0; j < n; j++) {
        double excess = rho[j] > excess_from ? (rho[j] - excess_from) / (1 - excess_from) : 0;
        to[j] = rho[j];
        to[n + j] = p_or[j] < 0 ? -excess : p_or[j] > 0 ? excess : 0;
        to[2 * n + j] = p_or[j] * per_limit[j];
        double wait = (cooldown[j] < cooling ? cooldown[j] : cooling) / (2 * cooling);
        to[3 * n + j] = closed[j] ? overflow[j] * per_overflow : -0.5 - wait;
    }
    to += 4 * n;
    for (Py_ssize_t j = 0; j < sizes[9]; j++) {
        int steps = ahead[maintainable[j]];
        *to++ = steps >= 0 && steps < planned ? 1 - steps / planned : 0;
    }
    if (sizes[30]) {
        for (Py_ssize_t j = 0; j < n; j++) to[j] = 0;
        for (Py_ssize_t k = 0; k < sizes[9]; k++) {
            Py_ssize_t lost = maintainable[k];
            if (!closed[lost] || !(threatened[k] || (ahead[lost] >= 0 && ahead[lost] <= notice))) continue;
            for (Py_ssize_t j = 0; j < n; j++) {
                double after = closed[j] ? (p_or[j] + factors[j * sizes[9] + k] * p_or[lost]) * per_limit[j] : 0;
                if (fabs(after) > fabs(to[j])) to[j] = after;
            }
        }
        for (Py_ssize_t j = 0; j < n; j++, to++) {
            double excess = (fabs(*to) - excess_from) / (1 - excess_from);
            *to = excess > 0 ? copysign(excess, *to) : 0;
        }
    }
    for (Py_ssize_t j = 0; j < n_red; j++) {
        double output = gen_p[red[j]], dispatch = actual[red[j]];
        to[j] = output * per_pmax[red[j]];
        to[n_red + j] = dispatch * per_pmax[red[j]];
        to[2 * n_red + j] = (target[red[j]] - dispatch) * per_up[j];
        to[3 * n_red + j] = clip((pmax[j] - output) * per_up[j], 0, 1);
        to[4 * n_red + j] = clip((output - pmin[j]) * per_down[j], 0, 1);
    }
    to += 5 * n_red;
    for (Py_ssize_t j = 0; j < sizes[12]; j++) {
        to[j] = available[cur[j]] * per_pmax[cur[j]];
        to[sizes[12] + j] = limit[cur[j]] < 1 ? limit[cur[j]] : 1;
    }
    to += 2 * sizes[12];
    for (Py_ssize_t j = 0; j < sizes[23]; j++) *to++ = load[j] * per_load[j];
    for (Py_ssize_t j = 0; j < sizes[25]; j++) *to++ = charge[j] * per_energy[j];
    for (Py_ssize_t j = 0; j < sizes[25]; j++) *to++ = power[j] * per_power[j];
    for (Py_ssize_t j = 0; j < sizes[29]; j++) *to++ = calendar[j];
    to = a[2];
    for (Py_ssize_t j = 0; j < sizes[0]; j++) out[j] = (float)clip(to[picks[j]], -bound, bound);
    release(&arrays);
    Py_RETURN_NONE;
}

/* Summed excess of loadings above `safe`, MW available and used, cost of dispatch and storage, MW lost. */
static PyObject *account(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Arrays arrays;
    void *a[9];
    Py_ssize_t sizes[9];
    if (!expects(count, 10) || open_arrays(&arrays, args, "fffiffdfd", a, sizes) < 0) return NULL;
    double safe = PyFloat_AsDouble(args[9]), overload = 0, available = 0, used = 0, cost = 0, lost = 0;
    const float *rho = a[0], *before = a[1], *gen_p = a[2], *load = a[4], *actual = a[5], *storage = a[7];
    const long long *renewable = a[3];
    const double *price = a[6], *wear = a[8];
    for (Py_ssize_t j = 0; j < sizes[0]; j++) overload += rho[j] > safe ? rho[j] - safe : 0;
    for (Py_ssize_t j = 0; j < sizes[3]; j++) {
        available += before[renewable[j]];
        used += gen_p[renewable[j]];
    }
    for (Py_ssize_t j = 0; j < sizes[2]; j++) lost += gen_p[j];
    for (Py_ssize_t j = 0; j < sizes[4]; j++) lost -= load[j];
    for (Py_ssize_t j = 0; j < sizes[5]; j++) cost += fabs(actual[j]) * price[j];
    for (Py_ssize_t j = 0; j < sizes[7]; j++) {
        cost += fabs(storage[j]) * wear[j];
        lost -= storage[j];
    }
    release(&arrays);
    return Py_BuildValue("ddddd", overload, available, used, cost, lost);
}

static PyMethodDef methods[] = {
    {"project", (PyCFunction)(void (*)(void))project, METH_FASTCALL, NULL},
    {"redispatch", (PyCFunction)(void (*)(void))redispatch, METH_FASTCALL, NULL},
    {"protect", (PyCFunction)(void (*)(void))protect, METH_FASTCALL, NULL},
    {"decode", (PyCFunction)(void (*)(void))decode, METH_FASTCALL, NULL},
    {"allow", (PyCFunction)(void (*)(void))allow, METH_FASTCALL, NULL},
    {"order", (PyCFunction)(void (*)(void))order, METH_FASTCALL, NULL},
    {"zone_room", (PyCFunction)(void (*)(void))zone_room, METH_FASTCALL, NULL},
    {"zone_propose", (PyCFunction)(void (*)(void))zone_propose, METH_FASTCALL, NULL},
    {"zone_settle", (PyCFunction)(void (*)(void))zone_settle, METH_FASTCALL, NULL},
    {"observe", (PyCFunction)(void (*)(void))observe, METH_FASTCALL, NULL},
    {"account", (PyCFunction)(void (*)(void))account, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "grid2op_zones._kernels", NULL, -1, methods};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&module); }
