<?php
// What PHP makes of a request.
$body = file_get_contents('php://input');
header('Content-Type: application/json');
echo json_encode([
    'get' => (object) $_GET,
    'post' => (object) $_POST,
    'json' => json_decode($body),
    'length' => strlen($body),
    'authorization' => $_SERVER['HTTP_AUTHORIZATION'] ?? '',
]);
