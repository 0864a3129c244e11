/* test_io.c - CSV, JSON Lines and YAML: what is read, and what is said about what cannot be. */
#include "unit.h"

#include "io/io.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static sr_error fault;

/* Parses a string; the name decides the format. */
static sr_status parse_as(const char *name, const char *text, size_t len,
                          const sri_read_options *options, sri_rows *rows) {
    sri_buffer bytes = {0};
    assert_true(sri_buffer_append(&bytes, text, len));
    fault.message[0] = '\0';
    return sri_rows_parse(name, &bytes, options, rows, &fault);
}

static sr_status parse(const char *name, const char *text, sri_rows *rows) {
    return parse_as(name, text, strlen(text), &(sri_read_options){0}, rows);
}

static void refused(const char *name, const char *text, const char *message) {
    sri_rows rows;
    assert_int_not_equal(parse(name, text, &rows), SR_OK);
    if (strstr(fault.message, message) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", fault.message, message);
    assert_int_equal(rows.count, 0);
    assert_null(rows.bytes.data);
}

static void row_is(const sri_rows *rows, size_t i, const char *text, const char *label,
                   size_t line) {
    assert_true(i < rows->count);
    const sri_row *row = &rows->rows[i];
    assert_int_equal(row->text.len, strlen(text));
    assert_memory_equal(row->text.data, text, row->text.len);
    assert_true(sri_str_equal(rows->labels[row->label].name, sr_str_of(label)));
    assert_int_equal(row->line, line);
}

/* ---- CSV --------------------------------------------------------------------------------------- */

static void csv_of_every_kind_of_field(void **state) {
    (void)state;
    sri_rows rows;
    assert_int_equal(parse("a.csv",
                           "id,text,route\n1,plain,a\n\n2,\"with, comma\",b\n3,\"two\nlines\",a\n"
                           "4,\"say \"\"hi\"\"\",\"b\"\n5, spaces ,a",
                           &rows),
                     SR_OK);
    assert_int_equal(rows.count, 5);
    assert_int_equal(rows.label_count, 2);
    row_is(&rows, 0, "plain", "a", 2);
    row_is(&rows, 1, "with, comma", "b", 4);
    row_is(&rows, 2, "two\nlines", "a", 5);
    row_is(&rows, 3, "say \"hi\"", "b", 7);
    row_is(&rows, 4, " spaces ", "a", 8);
    assert_int_equal(rows.labels[0].rows, 3);
    sri_rows_free(&rows);
}

static void csv_with_bom_and_crlf(void **state) {
    (void)state;
    sri_rows rows;
    assert_int_equal(
        parse("a.csv", "\xEF\xBB\xBFtext,route\r\nhello,a\r\n\"x\r\ny\",\"b\"\r\n\r\n", &rows),
        SR_OK);
    assert_int_equal(rows.count, 2);
    row_is(&rows, 0, "hello", "a", 2);
    row_is(&rows, 1, "x\r\ny", "b", 3);
    sri_rows_free(&rows);
}

static void csv_with_named_columns(void **state) {
    (void)state;
    sri_rows rows;
    const char *text = "category , utterance\nc,u\n";
    sri_read_options options = {.text_column = "utterance", .route_column = "category"};
    assert_int_equal(parse_as("a.csv", text, strlen(text), &options, &rows), SR_OK);
    row_is(&rows, 0, "u", "c", 2);
    sri_rows_free(&rows);
}

static void csv_faults_are_named_with_their_line(void **state) {
    (void)state;
    refused("a.csv", "", "a.csv: the file is empty");
    refused("a.csv", "\xEF\xBB\xBF", "a.csv: the file is empty");
    refused("a.csv", "text,category\nx,y\n",
            "a.csv:1: the header has no column \"route\" (it has: text, category)");
    refused("a.csv", "question,route\nx,y\n", "no column \"text\"");
    refused("a.csv", "text,text,route\n", "two columns \"text\"");
    refused("a.csv", "text,route\nx,y\nz\n", "a.csv:3: the row has 1 field, the header 2");
    refused("a.csv", "text,route\nhello, you,y\n",
            "a.csv:2: the row has 3 fields, the header 2; put texts");
    refused("a.csv", "text,route\nx,y\n\"open,z\nmore,y\n",
            "a.csv:3: the quote that opens here is never closed");
    refused("a.csv", "text,route\n\"a\"b,y\n", "a.csv:2: text follows a closing quote");
    refused("a.csv", "text,route\n5\" pipe,y\n", "a.csv:2: a quote inside an unquoted field");
    refused("a.csv", "text,route\nx,y\n\xFF,y\n", "a.csv:3: the text is not valid UTF-8 at byte 0");
    refused("a.csv", "text,route\nx,\xC3\n",
            "a.csv:2: the route's name is not valid UTF-8 at byte 0");
    refused("a.csv", "text,route\n ,y\n", "a.csv:2: the text is empty");
    refused("a.csv", "text,route\nx,y\nx, y\n",
            "a.csv:3: the route's name \" y\" begins or ends with white space");
    refused("a.jsonl", "{\"text\":\"x\",\"route\":\"y\xE3\x80\x80\"}\n",
            "begins or ends with white space");
    refused("a.csv", "text,route\nx,\n", "a.csv:2: the route's name is empty");
    refused("a.csv", "\xFF\xFEt\1", "UTF-16");
    refused("a.txt", "x", "--format");
}

static void csv_refuses_nul_and_what_is_too_long(void **state) {
    (void)state;
    sri_rows rows;
    assert_int_equal(parse_as("a.csv", "text,route\na\0b,y\n", 17, &(sri_read_options){0}, &rows),
                     SR_ERR_INVALID);
    assert_non_null(strstr(fault.message, "a.csv:2: the text holds a NUL"));
    enum { BIG = 10000000 };
    char *big = malloc(BIG + 32);
    for (int quoted = 0; quoted < 2; quoted++) {
        int head = sprintf(big, "text,route\nx,y\n%s", quoted ? "\"" : "");
        memset(big + head, 'a', BIG);
        strcpy(big + head + BIG, quoted ? "\",y\n" : ",y\n");
        assert_int_equal(parse("a.csv", big, &rows), SR_ERR_LIMIT);
        assert_non_null(strstr(fault.message, "a.csv:3: a field is longer than 65536 bytes"));
    }
    /* A quote that is missing swallows the rest of a large file: the message says where it began. */
    strcpy(big, "text,route\n\"x,y\n");
    for (size_t at = strlen(big); at < BIG; at += 4) strcpy(big + at, "a,b\n");
    assert_int_equal(parse("a.csv", big, &rows), SR_ERR_LIMIT);
    assert_non_null(strstr(
        fault.message, "a.csv:2: a field is longer than 65536 bytes, the maximum; is the closing"));
    free(big);
}

static void csv_field_of_the_largest_size_is_read(void **state) {
    (void)state;
    sri_rows rows;
    char *text = malloc(SR_MAX_UTTERANCE_BYTES + 32);
    size_t head = strlen(strcpy(text, "text,route\n"));
    memset(text + head, 'a', SR_MAX_UTTERANCE_BYTES);
    strcpy(text + head + SR_MAX_UTTERANCE_BYTES, ",y\n");
    assert_int_equal(parse("a.csv", text, &rows), SR_OK);
    assert_int_equal(rows.rows[0].text.len, SR_MAX_UTTERANCE_BYTES);
    sri_rows_free(&rows);
    free(text);
}

static void csv_escapes_come_back(void **state) {
    (void)state;
    static const char *const texts[] = {"plain", "a,b",    "\"q\"",    "two\nlines",
                                        " lead", "trail ", "cr\rhere", "\xC3\xA9\xE2\x82\xAC",
                                        "\"",    "tab\t"};
    sri_buffer out = {0};
    assert_true(sri_buffer_append_str(&out, "text,route\n"));
    for (size_t i = 0; i < SRI_COUNT(texts); i++)
        assert_true(sri_append_csv(&out, sr_str_of(texts[i])) &&
                    sri_buffer_append_str(&out, ",a\n"));
    sri_rows rows;
    assert_int_equal(parse_as("a.csv", out.data, out.len, &(sri_read_options){0}, &rows), SR_OK);
    assert_int_equal(rows.count, SRI_COUNT(texts));
    for (size_t i = 0; i < SRI_COUNT(texts); i++)
        assert_true(sri_str_equal(rows.rows[i].text, sr_str_of(texts[i])));
    sri_rows_free(&rows);
    sri_buffer_free(&out);
}

static void blank_texts_can_be_evaluated(void **state) {
    (void)state;
    sri_rows rows;
    const char *text = "text,route\n,oos\n";
    assert_int_equal(
        parse_as("a.csv", text, strlen(text), &(sri_read_options){.allow_blank = true}, &rows),
        SR_OK);
    row_is(&rows, 0, "", "oos", 2);
    sri_rows_free(&rows);
}

/* ---- JSON Lines -------------------------------------------------------------------------------- */

static void jsonl_of_both_kinds(void **state) {
    (void)state;
    sri_rows rows;
    assert_int_equal(
        parse(
            "a.jsonl",
            "{\"text\":\"hi \\u00e9\",\"route\":\"a\",\"id\":7}\n\n"
            "{\"route\":\"b\",\"utterances\":[\"x\",\"y\"],\"threshold\":0.5,\"description\":\"d\","
            "\"metadata\":{\"k\": [1, null]}}\r\n"
            "{\"name\":\"c\",\"confidence\":0.9,\"utterances\":[]}",
            &rows),
        SR_OK);
    assert_int_equal(rows.count, 3);
    row_is(&rows, 0, "hi \xC3\xA9", "a", 1);
    row_is(&rows, 2, "y", "b", 3);
    assert_false(rows.labels[0].has_threshold);
    assert_int_equal(rows.labels[1].threshold.kind, SR_THRESHOLD_COSINE);
    assert_true(rows.labels[1].threshold.value == 0.5);
    assert_true(sri_str_equal(rows.labels[1].description, sr_str_of("d")));
    assert_true(sri_str_equal(rows.labels[1].metadata, sr_str_of("{\"k\": [1, null]}")));
    assert_int_equal(rows.labels[2].threshold.kind, SR_THRESHOLD_CONFIDENCE);
    assert_int_equal(rows.labels[2].rows, 0);
    sri_rows_free(&rows);
}

static void jsonl_faults_are_named_with_their_line(void **state) {
    (void)state;
    refused("a.jsonl", "{\"text\":\"x\",\"route\":\"a\"}\n{\"text\":", "a.jsonl:2: not JSON");
    refused("a.jsonl", "\n\n[1]\n", "a.jsonl:3: not a JSON object");
    refused("a.jsonl", "{\"text\":1,\"route\":\"a\"}", "a.jsonl:1: \"text\" must be a string");
    refused("a.jsonl", "{\"text\":\"x\"}", "a.jsonl:1: there is no \"route\"");
    refused("a.jsonl", "{\"a\":1}", "neither a labelled text");
    refused("a.jsonl", "{\"route\":\"a\",\"route\":\"b\",\"text\":\"x\"}",
            "a.jsonl:1: not JSON, at column");
    refused("a.jsonl", "{\"route\":\"a\",\"treshold\":1}", "a route has no \"treshold\"");
    refused("a.jsonl", "{\"route\":\"a\",\"threshold\":1.5}",
            "threshold 1.5 is not a cosine from -1 to 1");
    refused("a.jsonl", "{\"route\":\"a\",\"confidence\":-0.5}",
            "confidence -0.5 is not a number from 0 to 1");
    refused("a.jsonl", "{\"route\":\"a\",\"threshold\":NaN}", "not JSON");
    refused("a.jsonl", "{\"route\":\"a\",\"threshold\":1,\"confidence\":1}", "not both");
    refused("a.jsonl", "{\"route\":\"a\",\"utterances\":\"x\"}", "\"utterances\" must be a list");
    refused("a.jsonl", "{\"route\":\"a\",\"utterances\":[\"x\",\"\"]}",
            "a.jsonl:1: the text is empty");
    refused("a.jsonl", "{\"route\":\"a\",\"text\":\"\xFF\"}", "a.jsonl:1: not JSON");
}

static void json_escapes_come_back(void **state) {
    (void)state;
    sri_buffer out = {0};
    assert_true(sri_append_json(&out, (sr_str){"a\"\\\n\t\x01\x7F\xE2\x82\xAC\xFF\0z", 13}));
    assert_int_equal(out.len,
                     strlen("\"a\\\"\\\\\\n\\t\\u0001\\u007f\xE2\x82\xAC\xEF\xBF\xBD\\u0000z\""));
    assert_memory_equal(
        out.data, "\"a\\\"\\\\\\n\\t\\u0001\\u007f\xE2\x82\xAC\xEF\xBF\xBD\\u0000z\"", out.len);
    sri_buffer_free(&out);
}

static void number_is(double number, const char *text) {
    sri_buffer out = {0};
    assert_true(sri_append_number(&out, number) && sri_buffer_append(&out, "", 1));
    assert_string_equal(out.data, text);
    sri_buffer_free(&out);
}

static void numbers_are_short_and_accurate(void **state) {
    (void)state;
    number_is(0, "0");
    number_is(1, "1");
    number_is(-1, "-1");
    number_is(0.5, "0.5");
    number_is(-0.25, "-0.25");
    number_is(0.000000049, "0");
    number_is(-0.00000001, "0");
    number_is(0.99999999, "1");
    number_is(0.1234567, "0.1234567");
    number_is(0.0000001, "0.0000001");
    number_is(12.03, "12.03");
    number_is(NAN, "null");
    number_is(INFINITY, "null");
    number_is(1e30, "1e+30");
    for (int i = 1; i < 1000; i++) { /* a float in [0.5, 1] survives */
        float value = 0.5f + (float)i * 0.0004987f;
        sri_buffer out = {0};
        assert_true(sri_append_number(&out, (double)value) && sri_buffer_append(&out, "", 1));
        assert_true(fabs(strtod(out.data, NULL) - (double)value) < 6e-8);
        sri_buffer_free(&out);
    }
    sri_buffer out = {0};
    assert_true(sri_append_exact(&out, 0.1 + 0.2) && sri_buffer_append(&out, "", 1));
    assert_true(strtod(out.data, NULL) == 0.1 + 0.2);
    sri_buffer_free(&out);
}

/* ---- YAML -------------------------------------------------------------------------------------- */

static void yaml_route_table(void **state) {
    (void)state;
    sri_rows rows;
    assert_int_equal(
        parse(
            "a.yaml",
            "# a comment\nroutes:\n  - utterances: [hello, 'it''s me', \"a\\tb\"]\n"
            "    name: greet\n    description: >\n      says\n      hello\n"
            "    threshold: 0.25\n"
            "    metadata: {team: x, n: 3, f: 1.5, t: true, z: null, s: '3', no: no, l: [a, []]}\n"
            "  - name: 12\n    confidence: 0.5\n    utterances:\n    - yes\n    - |\n      two\n   "
            "   lines\n"
            "  - name: empty\n    threshold: auto\n",
            &rows),
        SR_OK);
    assert_int_equal(rows.label_count, 3);
    assert_int_equal(rows.count, 5);
    row_is(&rows, 0, "hello", "greet", 3);
    row_is(&rows, 1, "it's me", "greet", 3);
    row_is(&rows, 2, "a\tb", "greet", 3);
    row_is(&rows, 3, "yes", "12", 13);
    row_is(&rows, 4, "two\nlines\n", "12", 14);
    assert_true(sri_str_equal(rows.labels[0].description, sr_str_of("says hello\n")));
    assert_true(sri_str_equal(
        rows.labels[0].metadata,
        sr_str_of("{\"team\":\"x\",\"n\":3,\"f\":1.5,\"t\":true,\"z\":null,\"s\":\"3\","
                  "\"no\":\"no\",\"l\":[\"a\",[]]}")));
    assert_true(rows.labels[0].threshold.value == 0.25);
    assert_int_equal(rows.labels[1].threshold.kind, SR_THRESHOLD_CONFIDENCE);
    assert_true(rows.labels[2].has_threshold);
    assert_int_equal(rows.labels[2].threshold.kind, SR_THRESHOLD_AUTO);
    sri_rows_free(&rows);
}

static void yaml_faults_are_named_with_their_line(void **state) {
    (void)state;
    refused("a.yaml", "\n\n", "a.yaml: the file is empty");
    refused("a.yaml", "- a\n", "a.yaml:1: the file must be a mapping with the one key \"routes\"");
    refused("a.yaml", "routes: []\nother: 1\n", "a.yaml:2: the file must be");
    refused("a.yaml", "{}\n", "a.yaml:1: the file must be");
    refused("a.yaml", "routes: []\nroutes: []\n", "a.yaml:2: the key \"routes\" stands here twice");
    refused("a.yaml", "routes: x\n", "a.yaml:1: routes must be a list");
    refused("a.yaml", "routes:\n  - x\n", "a.yaml:2: a route must be a mapping");
    refused("a.yaml", "routes:\n  - description: x\n", "a.yaml:2: the route has no name");
    refused("a.yaml", "routes:\n  - name: a\n    name: b\n",
            "a.yaml:3: the key \"name\" stands here twice");
    refused("a.yaml", "routes:\n  - name: a\n  - name: b\n  - name: a\n",
            "a.yaml:4: the route \"a\" stands already in line 2");
    refused("a.yaml", "routes:\n  - name: a\n    utterence: [x]\n",
            "a.yaml:3: a route has no \"utterence\"");
    refused("a.yaml", "routes:\n  - name: a\n    utterances: x\n",
            "a.yaml:3: utterances must be a list");
    refused("a.yaml", "routes:\n  - name: a\n    utterances:\n      - x\n      - so: what\n",
            "a.yaml:5: an utterance must be a text");
    refused("a.yaml", "routes:\n  - name: a\n    utterances: ['']\n",
            "a.yaml:3: the text is empty");
    refused("a.yaml", "routes:\n  - name: a\n    threshold: high\n",
            "a.yaml:3: threshold must be a number");
    refused("a.yaml", "routes:\n  - name: a\n    threshold: nan\n",
            "a.yaml:3: threshold nan is not a cosine from -1 to 1");
    refused("a.yaml", "routes:\n  - name: a\n    threshold: 2\n",
            "a.yaml:3: threshold 2 is not a cosine");
    refused("a.yaml", "routes:\n  - name: a\n    threshold: 1\n    confidence: 1\n",
            "a.yaml:4: give threshold or confidence");
    refused("a.yaml", "routes:\n  - name: a\n    metadata: {k: 1, k: 2}\n",
            "a.yaml:3: the key \"k\" stands here twice");
    refused("a.yaml", "routes:\n  - name: [a]\n", "a.yaml:2: name must be a single value");
    refused("a.yaml", "routes:\n  - name: \"a\n", "not YAML");
    refused("a.yaml", "routes:\n\t- name: a\n", "a.yaml:2: not YAML");
    refused("a.yaml", "routes:\n  - name: \xFF\n", "a.yaml:2: not YAML");
    refused("a.yaml", "routes: []\n---\nroutes: []\n", "a.yaml:2: a second document");
}

static void yaml_bombs_are_refused(void **state) {
    (void)state;
    refused("a.yaml", "routes:\n  - name: &a x\n    description: *a\n", "a.yaml:3: aliases");
    refused("a.yaml", "a: &a [x,x]\nroutes:\n", "a.yaml:1: the file must be");
    char deep[6000] = "routes:\n  - name: a\n    metadata: ";
    size_t at = strlen(deep);
    memset(deep + at, '[', 900);
    strcpy(deep + at + 900, "\n");
    refused("a.yaml", deep, "a.yaml:3: nested too deeply");
    memset(deep + at, '[', 5000);
    strcpy(deep + at + 5000, "\n");
    refused("a.yaml", deep, "a.yaml:3:");
}

static void yaml_escapes_come_back(void **state) {
    (void)state;
    static const char *const texts[] = {
        "plain",
        "- dash: colon # hash",
        "\"quotes\" 'single' \\",
        "two\nlines\ttab\r",
        "\x01\x1F\x7F",
        " spaces ",
        "\xC2\x85\xC2\xA0\xE2\x80\xA8\xE2\x80\xA9\xEF\xBB\xBF\xEF\xBF\xBE",
        "\xF0\x9F\x98\x80 \xE4\xB8\xAD\xE6\x96\x87",
        "null",
        "*a",
        "%x"};
    sri_buffer out = {0};
    assert_true(sri_buffer_append_str(&out, "routes:\n  - name: a\n    utterances:\n"));
    for (size_t i = 0; i < SRI_COUNT(texts); i++)
        assert_true(sri_buffer_append_str(&out, "      - ") &&
                    sri_append_yaml(&out, sr_str_of(texts[i])) &&
                    sri_buffer_append_str(&out, "\n"));
    sri_rows rows;
    sr_status code = parse_as("a.yaml", out.data, out.len, &(sri_read_options){0}, &rows);
    if (code != SR_OK) fail_msg("%s", fault.message);
    assert_int_equal(rows.count, SRI_COUNT(texts));
    for (size_t i = 0; i < SRI_COUNT(texts); i++) row_is(&rows, i, texts[i], "a", 4 + i);
    sri_rows_free(&rows);
    sri_buffer_free(&out);
}

/* Every input cut short is an answer or an error, never a crash (the sanitizers watch). */
static void cut_and_damaged_input_is_survived(void **state) {
    (void)state;
    static const char *const inputs[][2] = {
        {"a.csv", "text,route\n\"a \"\"b\"\"\",c\r\nd,e\n"},
        {"a.jsonl", "{\"text\":\"x\",\"route\":\"a\"}\n{\"route\":\"b\",\"utterances\":[\"x\"],"
                    "\"metadata\":{\"a\":[1]}}\n"},
        {"a.yaml",
         "routes:\n  - name: a\n    metadata: {a: [1, 'x']}\n    utterances: [b, \"c\\u20ac\"]\n"}};
    for (size_t i = 0; i < SRI_COUNT(inputs); i++) {
        size_t len = strlen(inputs[i][1]);
        char copy[256];
        for (size_t cut = 0; cut <= len; cut++) {
            for (int byte = -1; byte < 256; byte += 17) {
                sri_rows rows;
                memcpy(copy, inputs[i][1], len);
                if (byte >= 0 && cut < len) copy[cut] = (char)byte;
                size_t size = byte < 0 ? cut : len;
                if (parse_as(inputs[i][0], copy, size, &(sri_read_options){0}, &rows) == SR_OK)
                    sri_rows_free(&rows);
            }
        }
    }
}

/* ---- Grouping and files ------------------------------------------------------------------------ */

static void rows_become_routes_without_the_excepted(void **state) {
    (void)state;
    sri_rows rows;
    sri_routes routes;
    assert_int_equal(parse("a.csv", "text,route\n1,a\n2,oos\n3,b\n4,a\n5,oos\n", &rows), SR_OK);
    assert_int_equal(sri_rows_group(&rows, sr_str_of("oos"), &routes, NULL), SR_OK);
    assert_int_equal(routes.count, 2);
    assert_int_equal(routes.excepted, 2);
    assert_int_equal(routes.utterances, 3);
    assert_true(sri_str_equal(routes.routes[0].name, sr_str_of("a")));
    assert_int_equal(routes.routes[0].utterance_count, 2);
    assert_true(sri_str_equal(routes.routes[0].utterances[1], sr_str_of("4")));
    assert_null(routes.routes[0].threshold);
    assert_null(routes.routes[0].description);
    assert_true(sri_str_equal(routes.routes[1].utterances[0], sr_str_of("3")));
    sri_routes_free(&routes);
    sri_rows_free(&rows);
}

static void formats_are_known_by_name_and_ending(void **state) {
    (void)state;
    assert_int_equal(sri_format_of_path("/a.b/x.CSV"), SRI_FORMAT_CSV);
    assert_int_equal(sri_format_of_path("x.ndjson"), SRI_FORMAT_JSONL);
    assert_int_equal(sri_format_of_path("x.yml"), SRI_FORMAT_YAML);
    assert_int_equal(sri_format_of_path("csv"), SRI_FORMAT_UNKNOWN);
    assert_int_equal(sri_format_named("yaml"), SRI_FORMAT_YAML);
    assert_int_equal(sri_format_named("xml"), SRI_FORMAT_UNKNOWN);
}

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_io.XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void content_is(const char *path, const char *content) {
    sri_buffer bytes = {0};
    assert_int_equal(sri_read_file(path, 1000000, &bytes, &fault), SR_OK);
    assert_int_equal(bytes.len, strlen(content));
    assert_memory_equal(bytes.data, content, bytes.len);
    sri_buffer_free(&bytes);
}

static void written_file_appears_whole_or_not_at_all(void **state) {
    (void)state;
    char path[128], link[128];
    struct stat status;
    sri_outfile file;
    snprintf(path, sizeof path, "%s/out.csv", folder);
    snprintf(link, sizeof link, "%s/link.csv", folder);
    assert_int_equal(sri_outfile_open(path, &file, &fault), SR_OK);
    assert_int_equal(sri_outfile_write(&file, "one", 3, &fault), SR_OK);
    assert_int_not_equal(stat(path, &status), 0); /* not before it is complete */
    assert_int_equal(sri_outfile_commit(&file, &fault), SR_OK);
    content_is(path, "one");
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(sri_outfile_open(link, &file, &fault), SR_OK);
    assert_int_equal(sri_outfile_write(&file, "two", 3, &fault), SR_OK);
    sri_outfile_abandon(&file);
    content_is(path, "one");
    assert_int_equal(sri_outfile_open(link, &file, &fault), SR_OK);
    assert_int_equal(sri_outfile_write(&file, "three", 5, &fault), SR_OK);
    assert_int_equal(sri_outfile_commit(&file, &fault), SR_OK);
    content_is(path, "three");
    assert_int_equal(lstat(link, &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
    char listing[256];
    snprintf(listing, sizeof listing, "test $(ls -A %s | wc -l) = 2", folder);
    assert_int_equal(system(listing), 0); /* no temporary file is left */
}

static void places_that_cannot_be_written_are_explained(void **state) {
    (void)state;
    sri_outfile file;
    assert_int_equal(sri_outfile_open("/nonexistent/x.csv", &file, &fault), SR_ERR_NOT_FOUND);
    assert_non_null(strstr(fault.message, "/nonexistent/x.csv"));
    assert_int_equal(sri_outfile_open("/tmp", &file, &fault), SR_ERR_INVALID);
    assert_int_equal(sri_outfile_open("/dev/full", &file, &fault), SR_OK);
    assert_int_equal(sri_outfile_write(&file, "x", 1, &fault), SR_OK);
    assert_int_equal(sri_outfile_commit(&file, &fault), SR_ERR_FULL);
    sri_outfile_abandon(&file);
}

static void inputs_that_cannot_be_read_are_explained(void **state) {
    (void)state;
    sri_rows rows;
    assert_int_equal(sri_rows_read("/nonexistent.csv", &(sri_read_options){0}, &rows, &fault),
                     SR_ERR_NOT_FOUND);
    assert_non_null(strstr(fault.message, "/nonexistent.csv"));
    assert_int_equal(
        sri_rows_read("/tmp", &(sri_read_options){.format = SRI_FORMAT_CSV}, &rows, &fault),
        SR_ERR_FORMAT);
    assert_non_null(strstr(fault.message, "directory"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_of_every_kind_of_field),
        cmocka_unit_test(csv_with_bom_and_crlf),
        cmocka_unit_test(csv_with_named_columns),
        cmocka_unit_test(csv_faults_are_named_with_their_line),
        cmocka_unit_test(csv_refuses_nul_and_what_is_too_long),
        cmocka_unit_test(csv_field_of_the_largest_size_is_read),
        cmocka_unit_test(csv_escapes_come_back),
        cmocka_unit_test(blank_texts_can_be_evaluated),
        cmocka_unit_test(jsonl_of_both_kinds),
        cmocka_unit_test(jsonl_faults_are_named_with_their_line),
        cmocka_unit_test(json_escapes_come_back),
        cmocka_unit_test(numbers_are_short_and_accurate),
        cmocka_unit_test(yaml_route_table),
        cmocka_unit_test(yaml_faults_are_named_with_their_line),
        cmocka_unit_test(yaml_bombs_are_refused),
        cmocka_unit_test(yaml_escapes_come_back),
        cmocka_unit_test(cut_and_damaged_input_is_survived),
        cmocka_unit_test(rows_become_routes_without_the_excepted),
        cmocka_unit_test(formats_are_known_by_name_and_ending),
        cmocka_unit_test(written_file_appears_whole_or_not_at_all),
        cmocka_unit_test(places_that_cannot_be_written_are_explained),
        cmocka_unit_test(inputs_that_cannot_be_read_are_explained),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
