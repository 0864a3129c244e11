/* test_decide.c - the rule that turns scores into a decision, and the prior for confidence. */
#include "unit.h"

#include <math.h>

#include "decide/decide.h"

static sri_verdict decide(double best, double second, sr_threshold threshold, double margin) {
    double scores[2] = {best, second};
    sri_rule rule = {threshold, margin, false};
    return sri_decide(scores, isnan(second) ? 1 : 2, NAN, &rule);
}

static const sr_threshold automatic = {SR_THRESHOLD_AUTO, 0};

static void auto_is_cosine_060(void **state) {
    (void)state;
    assert_int_equal(decide(0.61, 0.1, automatic, 0).status, SR_MATCHED);
    assert_int_equal(decide((float)0.6f, 0.1, automatic, 0).status, SR_MATCHED);
    sri_verdict low = decide(0.59, 0.1, automatic, 0);
    assert_int_equal(low.status, SR_NONE);
    assert_int_equal(low.reason, SR_REASON_BELOW_THRESHOLD);
    assert_true(low.score == 0.59 && low.confidence >= 0 && fabs(low.margin - 0.49) < 1e-12);
}

static void a_threshold_of_one_accepts_the_text_itself(void **state) {
    (void)state;
    sr_threshold one = {SR_THRESHOLD_COSINE, 1};
    assert_int_equal(decide(0.99999988, 0.2, one, 0).status, SR_MATCHED); /* as fp32 rounds it */
    assert_int_equal(decide(1.0000001, 0.2, one, 0).status, SR_MATCHED);
    assert_true(decide(1.0000001, 0.2, one, 0).score == 1);
    assert_int_equal(decide(0.9999, 0.2, one, 0).status, SR_NONE);
    assert_int_equal(decide(-0.5, -0.7, (sr_threshold){SR_THRESHOLD_COSINE, -1}, 0).status,
                     SR_MATCHED);
}

static void a_small_lead_is_ambiguous_only_when_asked(void **state) {
    (void)state;
    assert_int_equal(decide(0.8, 0.79, automatic, 0).reason, SR_REASON_MATCHED);
    assert_int_equal(decide(0.8, 0.8, automatic, 0).reason, SR_REASON_MATCHED);
    assert_int_equal(decide(0.8, 0.79, automatic, 0.05).reason, SR_REASON_AMBIGUOUS);
    assert_int_equal(decide(0.8, 0.79, automatic, 0.05).status, SR_NONE);
    assert_int_equal(decide(0.5, 0.49, automatic, 0.05).reason, SR_REASON_BELOW_THRESHOLD);
    sri_verdict lone = decide(0.8, NAN, automatic, 0.05); /* nothing to be confused with */
    assert_int_equal(lone.reason, SR_REASON_MATCHED);
    assert_true(isnan(lone.margin));
}

static void no_reject_gives_the_best_route_always(void **state) {
    (void)state;
    double scores[2] = {-0.2, -0.2};
    sri_rule rule = {{SR_THRESHOLD_COSINE, 0.9}, 0.5, true};
    assert_int_equal(sri_decide(scores, 2, NAN, &rule).reason, SR_REASON_MATCHED);
    assert_int_equal(sri_decide(scores, 0, NAN, NULL).reason, SR_REASON_EMPTY_TABLE);
    assert_true(isnan(sri_decide(scores, 0, NAN, NULL).score));
}

static void a_confidence_threshold_compares_confidence(void **state) {
    (void)state;
    double confidence = decide(0.8, 0.7, automatic, 0).confidence;
    sr_threshold below = {SR_THRESHOLD_CONFIDENCE, confidence - 0.01};
    sr_threshold above = {SR_THRESHOLD_CONFIDENCE, confidence + 0.01};
    assert_int_equal(decide(0.8, 0.7, below, 0).status, SR_MATCHED);
    assert_int_equal(decide(0.8, 0.7, above, 0).status, SR_NONE);
    assert_int_equal(decide(-1, -1, (sr_threshold){SR_THRESHOLD_CONFIDENCE, 0}, 0).status,
                     SR_MATCHED);
}

static void confidence_grows_with_score_and_lead_and_sums_to_at_most_one(void **state) {
    (void)state;
    for (double best = -1; best < 0.99; best += 0.1)
        for (double second = -1; second <= best; second += 0.1) {
            double scores[4] = {best, second, second - 0.01, second - 0.4};
            double first = sri_confidence(scores, 4, NAN, 0), sum = first;
            assert_true(first >= 0 && first <= 1);
            double higher[2] = {best + 0.01, second + 0.01}, further[2] = {best, second - 0.01};
            assert_true(sri_confidence(higher, 2, NAN, 0) >= first);
            assert_true(sri_confidence(further, 2, NAN, 0) >= first);
            for (size_t place = 1; place < 4; place++) {
                double own = sri_confidence(scores, 4, NAN, place);
                assert_true(own >= 0 && own <= first + 1e-12);
                sum += own;
            }
            assert_true(sum <= 1 + 1e-12);
        }
    double clear[2] = {0.95, 0.70}, doubtful[2] = {0.65, 0.64};
    assert_true(sri_confidence(clear, 2, NAN, 0) > 0.95);
    assert_true(sri_confidence(doubtful, 2, NAN, 0) < 0.3);
}

static void an_example_out_of_scope_is_a_rival(void **state) {
    (void)state;
    double scores[2] = {0.8, 0.7};
    sri_rule rule = {{SR_THRESHOLD_COSINE, 0.5}, 0, false};
    assert_int_equal(sri_decide(scores, 2, 0.79, &rule).status, SR_MATCHED);
    assert_int_equal(sri_decide(scores, 2, 0.8, &rule).status, SR_MATCHED);
    sri_verdict nearer = sri_decide(scores, 2, 0.81, &rule);
    assert_int_equal(nearer.reason, SR_REASON_BELOW_THRESHOLD);
    assert_true(nearer.score == 0.8);
    /* The margin is between routes; the confidence knows of the rival, and of one far away nothing. */
    assert_true(fabs(nearer.margin - 0.1) < 1e-12);
    assert_true(nearer.confidence < sri_decide(scores, 2, 0.75, &rule).confidence);
    assert_true(sri_confidence(scores, 2, 0.75, 0) < sri_confidence(scores, 2, NAN, 0));
    assert_true(sri_confidence(scores, 2, 0.1, 0) == sri_confidence(scores, 2, NAN, 0));
    assert_true(sri_confidence(scores, 1, 0.79, 0) < sri_confidence(scores, 1, 0.1, 0));
    rule.no_reject = true;
    assert_int_equal(sri_decide(scores, 2, 0.81, &rule).status, SR_MATCHED);
}

static sri_verdict fitted(sri_fitted_scores evidence, sr_threshold threshold, double margin) {
    sri_rule rule = {threshold, margin, false};
    return sri_decide_fitted(&evidence, &rule);
}

static void heads_are_compared_by_each_kind_of_threshold(void **state) {
    (void)state;
    sri_fitted_scores sure = {0.9, true, 0.4, -0.1}, unsure = {0.3, false, 0.8, 0.2};
    sr_threshold cosine = {SR_THRESHOLD_COSINE, 0.5}, confidence = {SR_THRESHOLD_CONFIDENCE, 0.5};
    assert_int_equal(fitted(sure, automatic, 0).status, SR_MATCHED);
    assert_int_equal(fitted(unsure, automatic, 0).reason, SR_REASON_BELOW_THRESHOLD);
    assert_int_equal(fitted(sure, cosine, 0).reason, SR_REASON_BELOW_THRESHOLD);
    assert_int_equal(fitted(unsure, cosine, 0).status, SR_MATCHED);
    assert_int_equal(fitted(sure, confidence, 0).status, SR_MATCHED);
    assert_int_equal(fitted(unsure, confidence, 0).status, SR_NONE);
    confidence.value = 0.9;
    assert_int_equal(fitted(sure, confidence, 0).status, SR_MATCHED);
    sri_verdict verdict = fitted(sure, automatic, 0);
    assert_true(verdict.score == 0.4 && verdict.margin == -0.1 && verdict.confidence == 0.9);
    assert_int_equal(fitted(sure, automatic, 0.01).reason, SR_REASON_AMBIGUOUS);
}

static void what_the_fast_path_does_not_know_is_not_passed(void **state) {
    (void)state;
    sri_fitted_scores fast = {0.9, true, NAN, NAN};
    sr_threshold lowest = {SR_THRESHOLD_COSINE, -1};
    assert_int_equal(fitted(fast, automatic, 0.5).status, SR_MATCHED);
    sri_verdict verdict = fitted(fast, lowest, 0);
    assert_int_equal(verdict.reason, SR_REASON_BELOW_THRESHOLD);
    assert_true(isnan(verdict.score) && isnan(verdict.margin));
    sri_rule rule = {lowest, 0.5, true};
    assert_int_equal(sri_decide_fitted(&fast, &rule).status, SR_MATCHED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_is_cosine_060),
        cmocka_unit_test(a_threshold_of_one_accepts_the_text_itself),
        cmocka_unit_test(a_small_lead_is_ambiguous_only_when_asked),
        cmocka_unit_test(no_reject_gives_the_best_route_always),
        cmocka_unit_test(a_confidence_threshold_compares_confidence),
        cmocka_unit_test(confidence_grows_with_score_and_lead_and_sums_to_at_most_one),
        cmocka_unit_test(an_example_out_of_scope_is_a_rival),
        cmocka_unit_test(heads_are_compared_by_each_kind_of_threshold),
        cmocka_unit_test(what_the_fast_path_does_not_know_is_not_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
